"""Step 3 of PLoP: which units get an adapter, given their NFN, how sure that is, and what would make it surer.

    choice = choose([sample], Rule(count=3))
    choice.chosen                  # ["v_proj", "up_proj", "down_proj"]
    choice.confidence              # 0.998

A unit is a module type, or a single module; the statistics are the same. Everything is a function of the tasks' sample
matrices. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, takewhile
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from plop_cli.method.estimates import Array, by_type, default_count, influence, module_means, resampled_types
from plop_cli.method.floor import LEAST_SAMPLES
from plop_registry import SampleMatrix

Mask = NDArray[np.bool_]

SETTLED = 0.95
"""A set that fewer redraws than this choose is too close to call."""

_LIKELY = 0.01  # the risk at which a set is likely settled, see `_doubt`
_MOST = 1e4  # times the samples: a tie that even these would not settle is one


@dataclass(frozen=True)
class Rule:
    """The lowest `count` (None: as PLoP does unless told), or all `below` a threshold; the highest with `invert`.

    `exclude` are units that are out of the question.
    """

    count: int | None = None
    below: float | None = None
    invert: bool = False
    exclude: frozenset[str] = frozenset()

    def mask(self, nfn: Array) -> Mask:
        """Which units are in, along the last axis. Of equals the first is taken; what has no NFN never is."""
        if self.below is not None:
            with np.errstate(invalid="ignore"):
                return np.asarray(nfn < self.below)
        count = default_count(nfn.shape[-1]) if self.count is None else self.count
        keys = np.where(np.isnan(nfn), np.inf, -nfn if self.invert else nfn)
        inside = np.zeros(nfn.shape, dtype=bool)
        np.put_along_axis(inside, np.argsort(keys, axis=-1, kind="stable")[..., :count], True, axis=-1)
        return inside & ~np.isnan(nfn)

    def chosen(self, nfn: Mapping[str, float]) -> list[str]:
        """The units that are in, given the NFN of each, best first; equals go by name."""
        units = sorted(unit for unit in nfn if unit not in self.exclude)
        values = np.array([nfn[unit] for unit in units])
        order = np.argsort(-values if self.invert else values, kind="stable")
        inside = self.mask(values)
        return [units[index] for index in order if inside[index]]


PLOP = Rule()
"""As the paper does it."""


@dataclass(frozen=True)
class Samples:
    """One task: sums of NFN and token counts, both (samples, modules), and the unit that each module belongs to."""

    sums: Array
    counts: Array
    units: Sequence[str]

    @classmethod
    def of(cls, matrix: SampleMatrix, units: Sequence[str]) -> Samples:
        """The samples of a stored matrix."""
        return cls(matrix.sums.astype(float), matrix.counts.astype(float), units)

    @cached_property
    def nfn(self) -> dict[str, float]:
        """NFN of each unit, units in the order of their names."""
        means = by_type(module_means(self.sums, self.counts), self.units)
        return {unit: float(means[unit]) for unit in sorted(means)}


@dataclass(frozen=True)
class Choice:
    """What was chosen among the units, best first. `nfn` is the mean over the tasks, lowest first.

    `frequency` is how often a unit is in when the samples are drawn again, `confidence` the share of such draws that
    choose the very same set; empty and NaN where the choice is the user's own, and NaN for all units where there are
    fewer than `LEAST_SAMPLES`.
    """

    nfn: dict[str, float]
    chosen: list[str]
    frequency: dict[str, float] = field(default_factory=dict)
    confidence: float = math.nan
    close: list[str] = field(default_factory=list)
    """Below `SETTLED`: the units whose order is in doubt."""
    samples_wanted: int | None = None
    """Below `SETTLED`: how many more samples per task would likely settle it; None where no number would."""


def looks(samples: int, until: float) -> list[tuple[int, float]]:
    """After how many samples to look whether the choice is sure (8, 16, 32, … and all), and how sure it must be then.

    Each look may find it sure by chance, so the looks before the last share the risk of 1 − `until`.
    """
    early = list(takewhile(lambda look: look < samples, (LEAST_SAMPLES * 2**i for i in count())))
    return [*((look, 1 - (1 - until) / len(early)) for look in early), (samples, until)]


def choose(tasks: Sequence[Samples], rule: Rule, *, seed: int = 0) -> Choice:
    """Apply `rule` to the mean over `tasks`, which have the same units. Under `LEAST_SAMPLES`, how sure is not told."""
    units = [unit for unit in tasks[0].nfn if unit not in rule.exclude]
    nfn = np.mean([[task.nfn[unit] for unit in units] for task in tasks], axis=0)
    inside = rule.mask(nfn)
    order = np.argsort(nfn, kind="stable")
    values = {units[index]: float(nfn[index]) for index in order}
    chosen = rule.chosen(values)
    if min(len(task.sums) for task in tasks) < LEAST_SAMPLES:
        return Choice(values, chosen, dict.fromkeys(units, math.nan))
    redrawn = rule.mask(np.mean([_redrawn(task, units, seed + index) for index, task in enumerate(tasks)], axis=0))
    confidence = float((redrawn == inside).all(axis=1).mean())
    frequency = dict(zip(units, redrawn.mean(axis=0).tolist(), strict=True))
    doubt = _doubt(tasks, units, nfn, inside, rule) if confidence < SETTLED else ([], None)
    return Choice(values, chosen, frequency, confidence, *doubt)


def sure(types: Sequence[str], matrix: SampleMatrix, rule: Rule, *, seed: int = 0) -> float:
    """The confidence in what `rule` chooses by one task's samples; 0 where they say nothing yet."""
    confidence = choose([Samples.of(matrix, types)], rule, seed=seed).confidence if types else math.nan
    return 0.0 if math.isnan(confidence) else confidence


def _redrawn(task: Samples, units: list[str], seed: int) -> Array:
    """NFN in each bootstrap draw, (resamples, units)."""
    names, drawn = resampled_types(task.sums, task.counts, task.units, seed=seed)
    return drawn[:, [names.index(unit) for unit in units]]


def _doubt(
    tasks: Sequence[Samples], units: list[str], nfn: Array, inside: Mask, rule: Rule
) -> tuple[list[str], int | None]:
    """Which units are too close to call, and how many more samples per task would likely settle it.

    Each chosen unit against each other one (or each against the threshold) has a gap and, from the samples' influence,
    the standard error of that gap. In a normal approximation the pair changes places with probability Φ(−gap/error),
    and with f times the samples Φ(−gap/error · √f); the risk is the sum over pairs, a little too high as they tend to
    change places together. The pairs that bring it above 5 % are too close. More samples likely settle them when they
    bring it down to 1 %: the gap is only an estimate, and where it turns out smaller the risk is still likely 5 %.
    """
    covariance = _covariance(tasks, units)
    variance = np.diag(covariance)
    if rule.below is not None:
        pairs = np.arange(len(units))[:, None]
        gaps, variances = np.abs(nfn - rule.below), variance
    else:
        pairs = np.argwhere(inside[:, None] & ~inside)
        one, other = pairs.T
        gaps, variances = np.abs(nfn[one] - nfn[other]), variance[one] + variance[other] - 2 * covariance[one, other]
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = np.where(gaps > 0, gaps / np.sqrt(np.maximum(variances, 0)), 0)
    margins, pairs = margins[order := np.argsort(margins)], pairs[order]

    close = 1
    while _risk(margins[close:]) > 1 - SETTLED:
        close += 1
    doubtful = sorted(set(pairs[:close].flat), key=lambda unit: nfn[unit])
    return [units[unit] for unit in doubtful], _more(margins, max(len(task.sums) for task in tasks))


def _covariance(tasks: Sequence[Samples], units: list[str]) -> Array:
    """Of the errors of the units' NFN, which is the mean over independent tasks."""
    total = np.zeros((len(units), len(units)))
    for task in tasks:
        by_unit = by_type(influence(task.sums, task.counts), task.units)
        phi = np.stack([by_unit[unit] for unit in units], axis=1)
        total += phi.T @ phi * len(phi) / (len(phi) - 1)
    return total / len(tasks) ** 2


def _risk(margins: Array) -> float:
    """How likely it is that some pair changes places, at most."""
    return sum(map(NormalDist().cdf, (-margins[margins < 8]).tolist()))


def _more(margins: Array, samples: int) -> int | None:
    """How many samples more than `samples` bring the risk down; None beyond `_MOST` times as many."""
    low, high = 1.0, _MOST
    if _risk(margins * math.sqrt(high)) > _LIKELY:
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _risk(margins * math.sqrt(middle)) > _LIKELY else (low, middle)
    return math.ceil(samples * (high - 1))
