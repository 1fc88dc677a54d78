"""What laps say: who leads, who is behind beyond chance, who cannot be told apart. NumPy only.

    standings = stand(race)
    standings[0].verdict              # "worse"

A contestant's test losses are a table, seeds × test examples. Two contestants have the same seeds and examples, so
their difference is taken cell by cell, and what is hard for both cancels. Seeds and examples are both draws, so the
spread over either goes into the error of the mean: two crossed random effects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plop_cli.method.significance import LEVEL, critical, holm, two_sided
from plop_registry import Entry, Lap, Race

Table = NDArray[np.float64]
"""Test losses, (seeds, examples)."""

EARLY = 0.001
"""What p must be below to drop out before the last seed: so little that the last look keeps its whole 5 % (Haybittle
and Peto)."""

TUNED_ON = 0
"""The seed on which learning rates are tuned: the first of the race."""

BETTER, WORSE, UNTOLD, SAME = "better", "worse", "cannot be told", "the same"


@dataclass(frozen=True, slots=True)
class Gap:
    """A mean over seeds and examples, and its standard error; NaN where one seed or one example tells no spread.

    `share` is the part that seeds have in its variance, the rest is that of examples.
    """

    mean: float
    stderr: float = math.nan
    share: float = 0.0
    seeds: int = 1
    examples: int = 1

    @property
    def p(self) -> float:
        """How often chance alone makes a mean so far from zero."""
        return math.nan if math.isnan(self.stderr) else self._chance(self.mean, self.stderr)

    @property
    def half(self) -> float:
        """Half the width of its 95 % interval."""
        return math.nan if math.isnan(self.stderr) else self.stderr * critical(lambda t: self._chance(t, 1.0))

    def _chance(self, value: float, error: float) -> float:
        """Student's p at the degrees of freedom of seeds and of examples, weighted by their shares (Cochran and Cox).

        Satterthwaite's degrees of freedom would trust few seeds that happen to agree.
        """
        of_seeds, of_examples = (two_sided(value, error, draws - 1) for draws in (self.seeds, self.examples))
        return self.share * of_seeds + (1 - self.share) * of_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a contestant stands. Losses are in nats per token, lower is better; NaN where it has no lap to go by.

    `rate` is the learning rate it was tuned to, `seeds` those it ran to the end, `diverged` how many gave no number.
    `behind` is its difference from the baseline, `verdict` what can be said of it.
    """

    entry: Entry
    rate: float
    seeds: tuple[int, ...]
    diverged: int
    loss: Gap
    behind: Gap | None
    verdict: str


def crossed(table: Table) -> Gap:
    """The mean of a table of seeds × examples and its error.

    With a, b the variances of the means over seeds and over examples and r that of what neither explains, the variance
    of the grand mean is a/S + b/E − r/SE, not below the larger of the first two.
    """
    seeds, examples = table.shape
    mean = float(table.mean())
    if seeds < 2 or examples < 2:
        return Gap(mean)
    by_seed, by_example = table.mean(axis=1), table.mean(axis=0)
    a, b = float(by_seed.var(ddof=1)) / seeds, float(by_example.var(ddof=1)) / examples
    left = table - by_seed[:, None] - by_example + mean
    r = float((left**2).sum()) / ((seeds - 1) * (examples - 1)) / left.size
    share = a / (a + b) if a + b else 0.0
    return Gap(mean, math.sqrt(max(a + b - r, a, b)), share, seeds, examples)


def behind(tables: Mapping[str, Table], level: float) -> list[str]:
    """Who is behind the leader, the one with the lowest mean, beyond chance (Holm over all others).

    Args: `tables`, those of the contestants, with the same seeds and examples.
    """
    if not tables:
        return []
    leader = min(tables, key=lambda name: float(tables[name].mean()))
    others = [name for name in tables if name != leader]
    corrected = holm([crossed(tables[name] - tables[leader]).p for name in others])
    return [name for name, p in zip(others, corrected, strict=True) if p < level]


def rate_of(laps: Sequence[Lap], steps: int) -> float | None:
    """The learning rate with the lowest validation loss of the whole trainings on the first seed; None without one."""
    whole = [lap for lap in laps if lap.seed == TUNED_ON and lap.steps == steps and not lap.diverged]
    tuned = [(float(lap.validation.astype(float).mean()), lap.rate) for lap in whole if len(lap.validation)]
    return min(tuned)[1] if tuned else None


def finals(race: Race, entry: Entry) -> dict[int, Lap]:
    """A contestant's whole trainings at its learning rate, by seed; the diverged ones too."""
    laps, steps = race.laps_of(entry), int(race.settings["steps"])
    rate = rate_of(laps, steps)
    return {lap.seed: lap for lap in sorted(laps, key=lambda lap: lap.seed) if (lap.rate, lap.steps) == (rate, steps)}


def table_of(laps: Mapping[int, Lap], seeds: Sequence[int]) -> Table:
    """Test losses of these seeds."""
    return np.array([laps[seed].test for seed in seeds], dtype=np.float64)


def common(*sides: Mapping[int, Lap]) -> list[int]:
    """The seeds that all sides ran to the end."""
    ran = [{seed for seed, lap in side.items() if not lap.diverged and len(lap.test)} for side in sides]
    return sorted(set.intersection(*ran)) if ran else []


def baseline_of(race: Race) -> Entry:
    """What the others are compared to: PLoP, or where it does not race the first."""
    return next((entry for entry in race.entries if entry.name == "PLoP"), race.entries[0])


def stand(race: Race) -> tuple[Standing, ...]:
    """Where all contestants stand, lowest loss first; those without a number last."""
    laps = {(entry.name, entry.adapters): finals(race, entry) for entry in race.entries}
    base = baseline_of(race)
    base_laps = laps[base.name, base.adapters]
    gaps = {}
    for entry in race.entries:
        own = laps[entry.name, entry.adapters]
        if entry != base and (seeds := common(own, base_laps)):
            gaps[entry.name, entry.adapters] = crossed(table_of(own, seeds) - table_of(base_laps, seeds))
    others = [key for key in gaps if key[1] != base.adapters]
    corrected = dict(zip(others, holm([gaps[key].p for key in others]), strict=True))
    standings = []
    for entry in race.entries:
        key = (entry.name, entry.adapters)
        seeds = common(laps[key])
        gap = gaps.get(key)
        standings.append(
            Standing(
                entry=entry,
                rate=rate_of(race.laps_of(entry), int(race.settings["steps"])) or math.nan,
                seeds=tuple(seeds),
                diverged=sum(lap.diverged for lap in laps[key].values()),
                loss=crossed(table_of(laps[key], seeds)) if seeds else Gap(math.nan),
                behind=gap,
                verdict=_verdict(entry, base, gap, corrected.get(key, math.nan)),
            )
        )
    return tuple(sorted(standings, key=lambda each: (math.isnan(each.loss.mean), each.loss.mean)))


def _verdict(entry: Entry, base: Entry, gap: Gap | None, p: float) -> str:
    if entry == base:
        return ""
    if entry.adapters == base.adapters:
        return SAME
    if gap is None or not p < LEVEL:
        return UNTOLD
    return BETTER if gap.mean < 0 else WORSE


def best(race: Race) -> list[Standing]:
    """Those of whom none is behind the leader beyond chance, lowest loss first; empty where no lap was finished.

    Nor is any of them worse than the baseline, or is the baseline where another is better.
    """
    ran = [each for each in stand(race) if each.seeds]
    if not ran:
        return []
    base, verdicts = baseline_of(race), {each.verdict for each in ran}
    leader = ran[0]
    own = finals(race, leader.entry)
    others, chances = ran[1:], []
    for each in others:
        laps = finals(race, each.entry)
        seeds = common(own, laps)
        chances.append(crossed(table_of(laps, seeds) - table_of(own, seeds)).p if seeds else math.nan)
    told = zip(others, holm(chances), strict=True)
    even = [each for each, p in told if not p < LEVEL and each.verdict != WORSE]
    return [leader, *(each for each in even if each.entry != base or BETTER not in verdicts)]


def winner(race: Race) -> Standing | None:
    """The best, or of several that cannot be told apart the smallest; None where no lap was finished."""
    return min(best(race), key=lambda each: each.entry.parameters, default=None)
