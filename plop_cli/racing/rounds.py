"""The laps of a race, in order: learning rates are tuned, then seed after seed, until all is decided.

Laps that are stored are not run again, so a race that was ended goes on where it stopped. Several processes share out
the laps of each wave; every one stores its own, and knows all before the next wave.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from plop_cli.placement.placement import Placement
from plop_cli.processes import ALONE, Group
from plop_cli.racing.training import Trainer
from plop_cli.racing.tuning import longest, tune
from plop_cli.racing.verdicts import EARLY, TUNED_ON, behind, common, finals, table_of
from plop_cli.racing.watch import Watch
from plop_registry import Entry, Lap, Race, Registry


class Wanted(NamedTuple):
    """A lap to be run."""

    adapters: str
    rate: float
    seed: int
    steps: int


class _Spent(Exception):
    """The minutes are over."""


class Rounds:
    """The course of a race.

    Args: `race` has its entries, and no laps yet; `placements` are theirs, by `Entry.adapters`; `minutes` may be None.
    """

    def __init__(
        self,
        race: Race,
        placements: Mapping[str, Placement],
        trainer: Trainer,
        *,
        registry: Registry | None = None,
        minutes: float | None = None,
        group: Group = ALONE,
        watch: Watch | None = None,
    ) -> None:
        self._race, self._placements, self._trainer = race, placements, trainer
        self._registry, self._group, self._watch = registry, group, watch or Watch()
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._laps: dict[Wanted, Lap] = {}
        self._steps = int(race.settings["steps"])

    def run(self, seeds: int, rates: Sequence[float]) -> Race:
        """The race, run to its end or until the minutes are spent, with all laps that there are."""
        if self._registry:
            with self._group.together():
                if self._group.rank == 0:
                    self._registry.races.add(self._race)
            stored = self._registry.races.find(self._race.key)
            # All processes must know the same laps, or they would wait for each other in different places.
            known = self._group.gather(stored.laps if stored else ())[0]
            self._laps = {Wanted(*lap.key): lap for lap in known if lap.adapters in self._placements}
        self._estimate(seeds, rates)
        try:
            self._tune(rates)
            self._seeds(seeds)
        except _Spent:
            self._watch.note("the minutes are spent; run this again to go on where it stopped")
        return self._now

    @property
    def _now(self) -> Race:
        return replace(self._race, laps=tuple(sorted(self._laps.values(), key=lambda lap: lap.key)))

    def _entry(self, adapters: str) -> Entry:
        return next(entry for entry in self._race.entries if entry.adapters == adapters)

    def _tune(self, rates: Sequence[float]) -> None:
        """All contestants wave by wave, so that there is work for many processes."""
        tuning = {adapters: tune(rates, self._steps) for adapters in self._placements}
        waves = {adapters: next(each) for adapters, each in tuning.items()}
        while waves:
            self._laps_of([Wanted(a, rate, TUNED_ON, steps) for a, wave in waves.items() for rate, steps in wave])
            following = {}
            for adapters, wave in waves.items():
                laps = [self._laps[Wanted(adapters, rate, TUNED_ON, steps)] for rate, steps in wave]
                losses = [math.inf if lap.diverged else float(lap.validation.astype(float).mean()) for lap in laps]
                try:
                    following[adapters] = tuning[adapters].send(losses)
                except StopIteration:
                    continue
            waves = following

    def _seeds(self, seeds: int) -> None:
        """Seed after seed, without those that drop out."""
        rates = {adapters: self._rate(adapters) for adapters in self._placements}
        racing = [adapters for adapters, rate in rates.items() if rate is not None]
        for adapters in set(rates) - set(racing):
            self._watch.note(f"{self._entry(adapters).name} diverged at every learning rate, and races no further")
        for seed in range(1, seeds):
            self._laps_of([Wanted(a, rate, seed, self._steps) for a in racing if (rate := rates[a]) is not None])
            if seed + 1 < seeds:
                for adapters in self._behind(racing):
                    self._watch.drop(self._entry(adapters))
                    racing.remove(adapters)
                if len(racing) < 2:
                    return

    def _rate(self, adapters: str) -> float | None:
        laps = finals(self._now, self._entry(adapters))
        return laps[TUNED_ON].rate if TUNED_ON in laps else None

    def _behind(self, racing: Sequence[str]) -> list[str]:
        """Who drops out, on the seeds that all of these have run."""
        now = self._now
        laps = {adapters: finals(now, self._entry(adapters)) for adapters in racing}
        seeds = common(*laps.values())
        return behind({a: table_of(own, seeds) for a, own in laps.items()}, EARLY) if seeds else []

    def _laps_of(self, wanted: Sequence[Wanted]) -> None:
        """Run those that there are not yet: this process its share. Raises _Spent where the minutes do not suffice."""
        missing = [each for each in dict.fromkeys(wanted) if each not in self._laps]
        run: list[Lap] = []
        with self._group.together():
            for each in missing[self._group.rank :: self._group.size]:
                if time.monotonic() > self._deadline:
                    break
                run.append(self._lap(each))
        for laps in self._group.gather(run) if missing else ():
            self._laps |= {Wanted(*lap.key): lap for lap in laps}
        if any(each not in self._laps for each in missing):
            raise _Spent

    def _lap(self, wanted: Wanted) -> Lap:
        entry = self._entry(wanted.adapters)
        lap = self._trainer.lap(
            self._placements[wanted.adapters],
            rate=wanted.rate,
            seed=wanted.seed,
            steps=wanted.steps,
            validate=wanted.seed == TUNED_ON,
            step=self._watch.begin(entry, wanted.rate, wanted.seed, wanted.steps),
        )
        if self._registry:
            self._registry.races.add(replace(self._race, laps=(lap,)))
        self._watch.finish(entry, lap)
        return lap

    def _estimate(self, seeds: int, rates: Sequence[float]) -> None:
        """Say how long it takes, by the pace of a few steps."""
        trainings, steps = longest(rates, self._steps)
        many = len(self._placements)
        laps = many * (trainings + seeds - 1) - len(self._laps)
        steps = many * (steps + (seeds - 1) * self._steps) - sum(lap.steps for lap in self._laps.values())
        if laps <= 0 or steps <= 0:
            return
        step, example = self._trainer.pace(next(iter(self._placements.values())))
        data = self._trainer.data
        measured = many * (trainings * len(data.validation) + seeds * len(data.test))
        self._watch.estimate((steps * step + measured * example) / self._group.size, laps, steps)
