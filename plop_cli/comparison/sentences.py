"""What a comparison says in plain words: the sentence under the table, and what is not comparable in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

from plop_cli.comparison.values import Column, Comparison
from plop_cli.method.choice import SETTLED
from plop_cli.method.floor import LEAST_SAMPLES, told
from plop_cli.opinions.methods import METHODS, Method
from plop_cli.runs.axes import AXES
from plop_cli.words import counted, listed


def sentence(columns: Sequence[Column], baseline: Column, by: str, method: Method = METHODS["nfn"]) -> str:
    """Whether the placement changes, how much of NFN (of `method`'s values) does, and how alike the rankings are."""
    others = [column for column in columns if column is not baseline]
    if method.key == "nfn":
        parts = [*_placement(others, baseline, by), *_doubts(others, baseline), _values(others)]
    else:
        parts = [f"By {method.name}:", *_placement(others, baseline, by)]
    return " ".join([*parts, *_rankings(others)])


def _placement(others: Sequence[Column], baseline: Column, by: str) -> Iterator[str]:
    changed = [column for column in others if column.changed]
    if not changed:
        runs = "both runs" if len(others) == 1 else f"all {len(others) + 1} runs"
        yield f"LoRA belongs into {listed(baseline.chosen)} in {runs}."
        return
    moves = [f"{column.name} {_move(column)}" for column in changed]
    what = by if by in AXES else "run"
    yield f"The placement changes with the {what}: against {baseline.name}, {'; '.join(moves)}."


def _doubts(others: Sequence[Column], baseline: Column) -> Iterator[str]:
    """How sure the sets are that are not the same."""
    changed = [column for column in others if column.changed]
    for column in (baseline, *changed) if changed else ():
        confidence = told(column.run.confidence, column.run.samples)
        if column.run.samples < LEAST_SAMPLES:
            yield f"How sure the set of {column.name} is cannot be told from {counted(column.run.samples, 'text')}."
        elif confidence is not None and confidence < SETTLED:
            yield f"The set of {column.name} is not settled: it holds in {confidence:.0%} of resamples."


def _move(column: Column) -> str:
    """How a run's placement differs from the baseline's."""
    if not column.gained:
        return f"leaves out {listed(column.lost)}"
    return f"takes {listed(column.gained)}" + (f" instead of {listed(column.lost)}" if column.lost else "")


def _values(others: Sequence[Column]) -> str:
    every = [(change, type, column) for column in others for type, change in column.differences.items()]
    judged = [value for value in every if not math.isnan(value[0].p)]
    marked = [value for value in judged if value[0].significant]
    if not every:
        return "They have no type in common."
    if not judged:
        return "Whether a value differs by more than chance cannot be told from one text."
    if not marked:
        return "No value differs by more than chance."
    most, type, column = max(marked, key=lambda value: abs(value[0].nfn))
    where = f"{type} of {column.name}" if len(others) > 1 else type
    return f"{len(marked)} of {len(judged)} values differ by more than chance, most {where} ({most.nfn:+.3f})."


def _rankings(others: Sequence[Column]) -> Iterator[str]:
    known = [column.tau for column in others if not math.isnan(column.tau)]
    if known:
        tau = min(known)
        how = "the same" if tau == 1 else "nearly the same" if tau > 0.8 else "similar" if tau > 0.5 else "different"
        least = "" if len(known) == 1 or tau == 1 else " at least"
        yield f"The rankings of the types are {how} (Kendall's τ{least} {tau:.2f})."


def failures(comparison: Comparison, condition: str) -> list[str]:
    """Where `condition` is met: "changed" picks, or an NFN that is off by more than the X of "nfn:X", or gone."""
    if condition == "changed":
        return [f"{column.name} {_move(column)}" for column in comparison.others if column.changed]
    limit = float(condition.removeprefix("nfn:"))
    return [
        f"{type} of {column.name} {_distance(column, type)}"
        for column in comparison.others
        for type in comparison.types
        if type in column.scores or type in comparison.baseline.scores
        if type not in column.differences or not abs(column.differences[type].nfn) <= limit
    ]


def _distance(column: Column, type: str) -> str:
    """How far a type's NFN is from the baseline's."""
    difference = column.differences.get(type)
    return f"differs by {difference.nfn:+.3f}" if difference else "has no counterpart"


def basis(column: Column, baseline: Column) -> str:
    """What the differences of a column are taken from."""
    own, other = column.run.samples, baseline.run.samples
    if column.pairs == own == other:
        return f"paired over the {own} texts that both scored"
    if column.pairs:
        return f"paired over the {column.pairs} texts that both scored, of {own} and {other}; differences are of these"
    return "few texts or none in common with the baseline, taken as independent samples (Welch)"


def notes(columns: Sequence[Column], by: str, only: Collection[str] | None = None) -> Iterator[str]:
    """What else the runs differ in, of all or of these axes."""
    for what, values in _told_apart_by(columns, by).items():
        if only is not None and what not in only:
            continue
        groups: dict[str, list[str]] = {}
        for column, value in zip(columns, values, strict=True):
            groups.setdefault(value, []).append(column.name)
        if len(groups) > 1:
            yield f"not the same {what}: " + "; ".join(f"{value} in {listed(names)}" for value, names in groups.items())


def types_lacking(
    columns: Sequence[Column], has: Callable[[Column], Collection[str]] = lambda column: column.scores
) -> Iterator[str]:
    """Which types not all of the runs have."""
    types = dict.fromkeys(type for column in columns for type in column.scores)
    lacking = {type: tuple(column.name for column in columns if type not in has(column)) for type in types}
    for without in dict.fromkeys(filter(None, lacking.values())):
        yield f"{listed([type for type in types if lacking[type] == without])}: not in {listed(without)}"


def _told_apart_by(columns: Sequence[Column], by: str) -> dict[str, list[str]]:
    """Of each axis and setting that `by` does not tell already, every column's value."""
    told = {by} | {"model": {"revision"}, "revision": {"model"}}.get(by, set())
    values = {axis: [value(column.run) for column in columns] for axis, value in AXES.items() if axis not in told}
    if len(set(values.get("model", ()))) > 1:
        del values["revision"]
    if "revision" in values:  # the same label can have meant other weights
        weights = [column.run.model_revision[:8] for column in columns]
        values["revision"] = [
            label if label == weight else f"{label} ({weight})"
            for label, weight in zip(values["revision"], weights, strict=True)
        ]
    settings = dict.fromkeys(key for column in columns for key in column.run.settings)
    for key in (key for key in settings if key not in ("dtype", "quantization")):
        values[key.replace("_", " ")] = [str(column.run.settings.get(key)) for column in columns]
    return values
