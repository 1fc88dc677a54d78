"""What a comparison is: a column for each run, and the baseline that the others are held against.

A type that a run lacks is absent from its column, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plop_cli.method.significance import LEVEL, Difference
from plop_cli.runs.axes import AXES
from plop_registry import Run, TypeScore
from plop_registry.runs import finite
from plop_registry.shown import Shown


@dataclass(frozen=True, slots=True)
class Column:
    """One run in a comparison. The baseline has no differences, no τ and no changed picks.

    `chosen` are the types that it recommends, best first. `pairs` is how many texts that both scored the differences
    are of; 0 means all texts, as independent samples. `gained` and `lost` are the types that it recommends and the
    baseline does not, and the reverse.
    """

    name: str
    run: Run
    scores: dict[str, TypeScore]
    differences: dict[str, Difference]
    chosen: tuple[str, ...]
    pairs: int = 0
    tau: float = math.nan
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether it recommends other types than the baseline."""
        return bool(self.gained or self.lost)


@dataclass(frozen=True, slots=True)
class Comparison(Shown):
    """Types down (the baseline's lowest first), runs across. `by` is their axis, "run" where they differ in none.

    `sentence` says in plain words what it means, `notes` what is not comparable in it. `signal` is the method whose
    values the scores are: what is called `nfn` in them is then that method's.
    """

    by: str
    columns: tuple[Column, ...]
    baseline: Column
    types: tuple[str, ...]
    sentence: str
    notes: tuple[str, ...]
    signal: str = "nfn"

    @property
    def others(self) -> list[Column]:
        """The columns that are compared to the baseline."""
        return [column for column in self.columns if column is not self.baseline]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form. What is not finite is None; what a run lacks is left out."""
        return {
            "by": self.by,
            "signal": self.signal,
            "baseline": self.baseline.run.id,
            "level": LEVEL,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "runs": [
                {
                    "run_id": column.run.id,
                    "name": column.name,
                    **{axis: value(column.run) for axis, value in AXES.items()},
                    "samples": column.run.samples,
                    "recommended": list(column.chosen),
                    "gained": list(column.gained),
                    "lost": list(column.lost),
                    "paired_texts": column.pairs,
                    "kendall_tau": finite(column.tau),
                }
                for column in self.columns
            ],
            "scores": list(self.rows()),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A flat row for each type of each run that has it; differences are None in the baseline.

        Its value is called "nfn", or that of another signal "value".
        """
        for name in self.types:
            for column in self.columns:
                if score := column.scores.get(name):
                    difference = column.differences.get(name)
                    yield {
                        "type": name,
                        "run_id": column.run.id,
                        "name": column.name,
                        "nfn" if self.signal == "nfn" else "value": score.nfn,
                        "stderr": finite(score.stderr),
                        "recommended": score.recommended,
                        "difference": difference and finite(difference.nfn),
                        "difference_stderr": difference and finite(difference.stderr),
                        "p": difference and finite(difference.p),
                        "significant": difference and (None if math.isnan(difference.p) else difference.significant),
                    }
