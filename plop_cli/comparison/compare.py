"""Runs side by side: each one's NFN against a baseline run's, what is more than chance, and what it means.

comparison = compare([(run, registry.matrix(run.id)) for run in runs], by="task")
comparison.sentence
comparison.columns[1].differences["v_proj"].nfn
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from plop_cli.comparison import sentences
from plop_cli.comparison.signals import compare_signal
from plop_cli.comparison.values import Column, Comparison
from plop_cli.method.significance import differences, holm, kendall_tau
from plop_cli.runs.axes import first_difference, names
from plop_cli.runs.kept import ordering_of
from plop_cli.runs.selection import index_of, to_compare
from plop_registry import Registry, Run, SampleMatrix, TypeScore


def compare(
    runs: Sequence[tuple[Run, SampleMatrix]], *, baseline: int = 0, by: str | None = None, types: str = "*"
) -> Comparison:
    """Compare runs, loaded with their modules, to the one at index `baseline`.

    Each p is Holm's over all differences in the comparison: below 0.05 with at most 5 % risk of even one by chance.

    Args:
        by: one of AXES, which names the columns; None is the first that the runs differ in.
        types: shell glob of the types whose NFN are compared.
    """
    by = by or first_difference([run for run, _ in runs])
    columns = [
        Column(name, run, {t: s for t, s in _scores(run).items() if fnmatchcase(t, types)}, {}, tuple(run.recommended))
        for name, (run, _) in zip(names([run for run, _ in runs], by), runs, strict=True)
    ]
    for index, (_, matrix) in enumerate(runs):
        if index != baseline:
            columns[index] = _compared(columns[index], matrix, *runs[baseline])
    columns = _corrected(columns)
    return Comparison(
        by=by,
        columns=tuple(columns),
        baseline=columns[baseline],
        types=tuple(dict.fromkeys(type for column in (columns[baseline], *columns) for type in column.scores)),
        sentence=sentences.sentence(columns, columns[baseline], by),
        notes=(*sentences.notes(columns, by), *sentences.types_lacking(columns)),
    )


def compare_stored(
    registry: Registry,
    references: Sequence[str] = (),
    *,
    by: str | None = None,
    baseline: str | None = None,
    signal: str = "nfn",
    **filters: Any,
) -> tuple[Comparison, int]:
    """Compare stored runs, and how many older ones were passed over.

    Args:
        references, by, filters: which runs, as for `selection.to_compare`.
        baseline: what the others are compared to, a column's name or the start of an id; default the first.
        signal: the method whose values are compared, a key of `opinions.methods.METHODS`.

    Raises PlopError for runs that do not compare, and where what the method says of one is not in the registry.
    """
    whole, older = to_compare(registry, references, by, filters)
    runs = [run for run, _ in whole]
    called = names(runs, by or first_difference(runs))
    at = index_of(runs, called, baseline) if baseline else 0
    types = filters.get("type") or "*"
    if signal == "nfn":
        return compare(whole, baseline=at, by=by, types=types), older
    orders = [ordering_of(signal, run, registry) for run in runs]
    return compare_signal(runs, orders, baseline=at, by=by, types=types), older


def _compared(column: Column, matrix: SampleMatrix, base: Run, base_matrix: SampleMatrix) -> Column:
    """The column with what sets its run apart from the baseline's."""
    run = column.run
    by_type, pairs = differences(run, matrix, base, base_matrix)
    own, other = _scores(run), _scores(base)
    shared = [type for type in own if type in other]
    return replace(
        column,
        differences={type: difference for type, difference in by_type.items() if type in column.scores},
        pairs=pairs,
        tau=kendall_tau([own[type].nfn for type in shared], [other[type].nfn for type in shared]),
        gained=tuple(type for type in run.recommended if type not in base.recommended),
        lost=tuple(type for type in base.recommended if type not in run.recommended),
    )


def _corrected(columns: Sequence[Column]) -> list[Column]:
    """The columns with Holm's p in place of each difference's own."""
    p = iter(holm([difference.p for column in columns for difference in column.differences.values()]))
    return [
        replace(
            column,
            differences={type: replace(difference, p=next(p)) for type, difference in column.differences.items()},
        )
        for column in columns
    ]


def _scores(run: Run) -> dict[str, TypeScore]:
    return {score.type: score for score in run.types if math.isfinite(score.nfn)}
