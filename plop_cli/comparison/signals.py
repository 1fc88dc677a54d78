"""Runs side by side by what another method says of them, such as the condition number of their weights.

comparison = compare_signal(runs, [ordering(opinion) for opinion in opinions], by="model")
comparison.columns[1].scores["v_proj"].nfn          # the method's value: 187.2

What other methods say has no standard errors, so nothing is called more than chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from plop_cli.comparison import sentences
from plop_cli.comparison.values import Column, Comparison
from plop_cli.errors import PlopError
from plop_cli.method.significance import Difference
from plop_cli.opinions.methods import Method
from plop_cli.opinions.ordering import Ordering, agreement
from plop_cli.runs.axes import AXES, OF_WEIGHTS, first_difference, names
from plop_cli.runs.kept import precision
from plop_cli.words import listed
from plop_registry import Run, TypeScore


def compare_signal(
    runs: Sequence[Run], orders: Sequence[Ordering], *, baseline: int = 0, by: str | None = None, types: str = "*"
) -> Comparison:
    """Compare what one method says of each run to what it says of the one at index `baseline`.

    Args: as for `compare`; `orders` has the method's order of types for each run.

    Raises PlopError where the method tells no types apart.
    """
    method, base = orders[baseline].method, orders[baseline]
    for run, order in zip(runs, orders, strict=True):
        if not order.types:
            raise PlopError(
                f"{method.name} has no order of {run.model_name}'s types ({order.why_none}); choose another --signal"
            )
    by = by or first_difference(runs)
    columns = [
        _column(name, run, order, base, types) for name, run, order in zip(names(runs, by), runs, orders, strict=True)
    ]
    shown = dict.fromkeys(type for column in (columns[baseline], *columns) for type in column.scores)
    return Comparison(
        by=by,
        columns=tuple(columns),
        baseline=columns[baseline],
        types=tuple(shown),
        sentence=sentences.sentence(columns, columns[baseline], _cause(runs, by, method), method),
        notes=(
            *_notes(columns, by, method),
            *_without_value(columns, types),
            *sentences.types_lacking(columns, _modules),
        ),
        signal=method.key,
    )


def _column(name: str, run: Run, order: Ordering, base: Ordering, types: str) -> Column:
    scores = {
        each.type: TypeScore(each.type, each.modules, each.value, math.nan, recommended=each.type in order.chosen)
        for each in order.types
        if fnmatchcase(each.type, types)
    }
    if order is base:
        return Column(name, run, scores, {}, order.chosen)
    differences = {
        type: Difference(score.nfn - base.values[type], math.nan, math.nan)
        for type, score in scores.items()
        if type in base.values
    }
    tau = agreement(order, base).tau
    return Column(
        name,
        run,
        scores,
        differences,
        order.chosen,
        tau=math.nan if tau is None else tau,
        gained=tuple(type for type in order.chosen if type not in base.chosen),
        lost=tuple(type for type in base.chosen if type not in order.chosen),
    )


def _cause(runs: Sequence[Run], by: str, method: Method) -> str:
    """The axis that values of the method can differ by: weights are the same on every task."""
    if method.looks_at == "activations" or by in OF_WEIGHTS:
        return by
    return next((axis for axis in OF_WEIGHTS if len(set(map(AXES[axis], runs))) > 1), by)


def _notes(columns: Sequence[Column], by: str, method: Method) -> Iterator[str]:
    runs = [column.run for column in columns]
    if method.looks_at == "activations":
        yield from sentences.notes(columns, by)
    elif len({(run.model_revision, precision(run.settings.get("quantization"), run.dtype)) for run in runs}) == 1:
        yield f"{method.name} looks at the weights alone, and these runs are of the same weights"
    else:
        yield from sentences.notes(columns, by, only=OF_WEIGHTS)


def _modules(column: Column) -> Counter[str]:
    """How many modules of each type the model has."""
    return Counter(module.type for module in column.run.modules)


def _without_value(columns: Sequence[Column], types: str) -> Iterator[str]:
    """Of which types modules have no value, and so are not in the mean."""
    for column in columns:
        values = {type: score.modules for type, score in column.scores.items()}
        lack = {type: (count - values.get(type, 0), count) for type, count in _modules(column).items()}
        some = [f"{type} ({n} of {count})" for type, (n, count) in lack.items() if n > 0 and fnmatchcase(type, types)]
        if some:
            yield f"modules of {column.name} without a value: {listed(some)}"
