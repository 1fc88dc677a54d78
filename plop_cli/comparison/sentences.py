"""What a comparison says in plain words: the sentence under the table, and what is not comparable in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plop_cli.runs.axes import AXES
from plop_cli.words import listed

if TYPE_CHECKING:
    from plop_cli.comparison.compare import Column, Comparison

SETTLED = 0.95
"""Below this confidence, other samples might well recommend another set."""


def sentence(comparison: Comparison) -> str:
    """Whether the placement changes, how much of NFN does, and how alike the rankings are."""
    return " ".join([*_placement(comparison), _values(comparison), *_rankings(comparison)])


def _placement(comparison: Comparison) -> Iterator[str]:
    changed = [column for column in comparison.others if column.changed]
    if not changed:
        runs = "both runs" if len(comparison.columns) == 2 else f"all {len(comparison.columns)} runs"
        yield f"LoRA belongs into {listed(comparison.baseline.run.recommended)} in {runs}."
        return
    moves = [f"{column.name} {move(column)}" for column in changed]
    what = comparison.by if comparison.by in AXES else "run"
    yield f"The placement changes with the {what}: against {comparison.baseline.name}, {'; '.join(moves)}."
    for column in (comparison.baseline, *changed):
        confidence = column.run.confidence
        if confidence is not None and confidence < SETTLED:
            yield f"The set of {column.name} is not settled: it holds in {confidence:.0%} of resamples."


def move(column: Column) -> str:
    """How its placement changes."""
    if not column.gained:
        return f"leaves out {listed(column.lost)}"
    return f"takes {listed(column.gained)}" + (f" instead of {listed(column.lost)}" if column.lost else "")


def _values(comparison: Comparison) -> str:
    every = [(d, name, column) for column in comparison.others for name, d in column.differences.items()]
    marked = [each for each in every if each[0].significant]
    if not every:
        return "They have no type in common."
    if not marked:
        return "No value differs by more than chance."
    most, name, column = max(marked, key=lambda each: abs(each[0].nfn))
    where = f"{name} of {column.name}" if len(comparison.others) > 1 else name
    return f"{len(marked)} of {len(every)} values differ by more than chance, most {where} ({most.nfn:+.3f})."


def distance(column: Column, name: str) -> str:
    """How far a type's NFN is from the baseline's."""
    difference = column.differences.get(name)
    return f"differs by {difference.nfn:+.3f}" if difference else "has no counterpart"


def _rankings(comparison: Comparison) -> Iterator[str]:
    known = [column.tau for column in comparison.others if not math.isnan(column.tau)]
    if known:
        tau = min(known)
        how = "the same" if tau == 1 else "nearly the same" if tau > 0.8 else "similar" if tau > 0.5 else "different"
        least = "" if len(known) == 1 or tau == 1 else " at least"
        yield f"The rankings of the types are {how} (Kendall's τ{least} {tau:.2f})."


def basis(column: Column, baseline: Column) -> str:
    """What the differences of a column are of."""
    own, other = column.run.samples, baseline.run.samples
    if column.pairs == own == other:
        return f"paired over the {own} texts that both scored"
    if column.pairs:
        return f"paired over the {column.pairs} texts that both scored, of {own} and {other}; differences are of these"
    return "few texts or none in common with the baseline, taken as independent samples (Welch)"


def notes(columns: Sequence[Column], by: str) -> Iterator[str]:
    """What else the runs differ in, and which types not all of them have."""
    told = {by} | {"model": {"revision"}, "revision": {"model"}}.get(by, set())
    places = {axis: [place(column.run) for column in columns] for axis, place in AXES.items() if axis not in told}
    if len(set(places.get("model", ()))) > 1:
        del places["revision"]
    if "revision" in places:  # the same label can have meant other weights
        weights = [column.run.model_revision[:8] for column in columns]
        places["revision"] = [
            place if place == weight else f"{place} ({weight})"
            for place, weight in zip(places["revision"], weights, strict=True)
        ]
    settings = dict.fromkeys(key for column in columns for key in column.run.settings)
    for key in (key for key in settings if key not in ("dtype", "quantization")):
        places[key.replace("_", " ")] = [str(column.run.settings.get(key)) for column in columns]
    for what, values in places.items():
        groups: dict[str, list[str]] = {}
        for column, value in zip(columns, values, strict=True):
            groups.setdefault(value, []).append(column.name)
        if len(groups) > 1:
            yield f"not the same {what}: " + "; ".join(f"{value} in {listed(each)}" for value, each in groups.items())

    types = dict.fromkeys(name for column in columns for name in column.scores)
    lacking = {name: tuple(column.name for column in columns if name not in column.scores) for name in types}
    for without in dict.fromkeys(filter(None, lacking.values())):
        yield f"{listed([name for name in types if lacking[name] == without])}: not in {listed(without)}"
