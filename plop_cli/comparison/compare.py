"""Runs side by side: each one's NFN against a baseline run's, what is more than chance, and what it means.

    comparison = compare([(run, registry.matrix(run.id)) for run in runs], by="task")
    comparison.sentence
    comparison.columns[1].differences["v_proj"].nfn

A type that a run lacks is absent from its column, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from plop_cli.comparison import sentences
from plop_cli.method.significance import LEVEL, Difference, differences, holm, kendall_tau
from plop_cli.runs.axes import AXES, first_difference, names
from plop_registry import Run, SampleMatrix, TypeScore
from plop_registry.runs import finite


@dataclass(frozen=True, slots=True)
class Column:
    """One run in a comparison. The baseline has no differences, no τ and no changed picks.

    `pairs` is how many texts that both scored the differences are of; 0 means all texts, as independent samples.
    `gained` and `lost` are the types that it recommends and the baseline does not, and the reverse.
    """

    name: str
    run: Run
    scores: dict[str, TypeScore]
    differences: dict[str, Difference]
    pairs: int = 0
    tau: float = math.nan
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether it recommends other types than the baseline."""
        return bool(self.gained or self.lost)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Types down (the baseline's lowest first), runs across. `by` is their axis, "run" where they differ in none."""

    by: str
    columns: tuple[Column, ...]
    baseline: Column
    types: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def others(self) -> list[Column]:
        """The columns that are compared to the baseline."""
        return [column for column in self.columns if column is not self.baseline]

    @property
    def sentence(self) -> str:
        """What it means, in plain words."""
        return sentences.sentence(self)

    def failures(self, condition: str) -> list[str]:
        """Where `condition` is met: "changed" picks, or an NFN that is off by more than the X of "nfn:X", or gone."""
        if condition == "changed":
            return [f"{column.name} {sentences.move(column)}" for column in self.others if column.changed]
        limit = float(condition.removeprefix("nfn:"))
        return [
            f"{name} of {column.name} {sentences.distance(column, name)}"
            for column in self.others
            for name in self.types
            if name in column.scores or name in self.baseline.scores
            if name not in column.differences or not abs(column.differences[name].nfn) <= limit
        ]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form. What is not finite is None; what a run lacks is left out."""
        return {
            "by": self.by,
            "baseline": self.baseline.run.id,
            "level": LEVEL,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "runs": [
                {
                    "run_id": column.run.id,
                    "name": column.name,
                    **{axis: place(column.run) for axis, place in AXES.items()},
                    "samples": column.run.samples,
                    "recommended": column.run.recommended,
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
        """A flat row for each type of each run that has it; differences are None in the baseline."""
        for name in self.types:
            for column in self.columns:
                if score := column.scores.get(name):
                    difference = column.differences.get(name)
                    yield {
                        "type": name,
                        "run_id": column.run.id,
                        "name": column.name,
                        "nfn": score.nfn,
                        "stderr": finite(score.stderr),
                        "recommended": score.recommended,
                        "difference": difference and finite(difference.nfn),
                        "difference_stderr": difference and finite(difference.stderr),
                        "p": difference and finite(difference.p),
                        "significant": difference and difference.significant,
                    }


def compare(
    runs: Sequence[tuple[Run, SampleMatrix]], *, baseline: int = 0, by: str | None = None, types: str = "*"
) -> Comparison:
    """Compare runs, loaded with their modules, to the one at position `baseline`.

    Each p is Holm's over all differences in the comparison: below 0.05 with at most 5 % risk of even one by chance.

    Args:
        by: one of AXES, which names the columns; None is the first that the runs differ in.
        types: shell glob of the types whose NFN are compared.
    """
    by = by or first_difference([run for run, _ in runs])
    columns = [
        Column(name, run, {name: score for name, score in _scores(run).items() if fnmatchcase(name, types)}, {})
        for name, (run, _) in zip(names([run for run, _ in runs], by), runs, strict=True)
    ]
    for position, (_, matrix) in enumerate(runs):
        if position != baseline:
            columns[position] = _compared(columns[position], matrix, *runs[baseline])
    p = iter(holm([difference.p for column in columns for difference in column.differences.values()]))
    columns = [
        replace(column, differences={name: replace(d, p=next(p)) for name, d in column.differences.items()})
        for column in columns
    ]
    return Comparison(
        by=by,
        columns=tuple(columns),
        baseline=columns[baseline],
        types=tuple(dict.fromkeys(name for column in (columns[baseline], *columns) for name in column.scores)),
        notes=tuple(sentences.notes(columns, by)),
    )


def _compared(column: Column, matrix: SampleMatrix, base: Run, base_matrix: SampleMatrix) -> Column:
    run = column.run
    found, pairs = differences(run, matrix, base, base_matrix)
    one, other = _scores(run), _scores(base)
    shared = [name for name in one if name in other]
    return replace(
        column,
        differences={name: difference for name, difference in found.items() if name in column.scores},
        pairs=pairs,
        tau=kendall_tau([one[name].nfn for name in shared], [other[name].nfn for name in shared]),
        gained=tuple(name for name in run.recommended if name not in base.recommended),
        lost=tuple(name for name in base.recommended if name not in run.recommended),
    )


def _scores(run: Run) -> dict[str, TypeScore]:
    return {score.type: score for score in run.types if math.isfinite(score.nfn)}
