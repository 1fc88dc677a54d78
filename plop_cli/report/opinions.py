"""What other methods say of the models in a report: each type's place in every method's order, beside PLoP's.

    (matrix,) = matrices(answers, registry)
    matrix.rows[1].cells[0].place           # 2: the second type that condition numbers would adapt

A model that was scored on several tasks has the mean over them, as `plop recommend` takes it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from plop_cli.method.estimates import default_count
from plop_cli.opinions.beside import Said, beside
from plop_cli.opinions.methods import METHODS
from plop_cli.opinions.ordering import of_layers
from plop_cli.placement.refused import refused
from plop_cli.printable import short
from plop_cli.report.answers import Answer
from plop_cli.runs.kept import kept
from plop_cli.words import listed
from plop_registry import Opinion, Registry

SHADES = 6
"""Colours that places have, from the first to the last."""
_LAYERS = 3


@dataclass(frozen=True)
class Place:
    """Where a type stands in a method's order, from 1; `shade` from 0 for the first to SHADES − 1 for the last."""

    place: int
    value: str
    chosen: bool
    shade: int


@dataclass(frozen=True)
class Row:
    """A method: a place for each type of the matrix, None where it has no value; `shared` and `tau` are words."""

    method: str
    looks_at: str
    cells: tuple[Place | None, ...]
    shared: str
    tau: str


@dataclass(frozen=True)
class Matrix:
    """Methods × types of a model, in PLoP's order; `layers` says what block influence tells, `left_out` what is not."""

    model: str
    tasks: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[Row, ...]
    layers: str
    left_out: tuple[str, ...]


def matrices(answers: Sequence[Answer], registry: Registry) -> tuple[Matrix, ...]:
    """A matrix for each model, and each of its revisions, of which more is kept than NFN."""
    of_models = defaultdict[tuple[str, str], list[Answer]](list)
    for answer in answers:
        of_models[answer.model, answer.run.model_revision].append(answer)
    names = Counter(model for model, _ in of_models)
    found = (
        _matrix(model if names[model] == 1 else f"{model} ({revision[:8]})", own, registry)
        for (model, revision), own in of_models.items()
    )
    return tuple(matrix for matrix in found if matrix)


def _matrix(model: str, answers: Sequence[Answer], registry: Registry) -> Matrix | None:
    known = [[_named(each) for each in kept(answer.run, registry).values()] for answer in answers]
    run = answers[0].run
    types = {short(module.type) for module in run.modules}
    left_out = refused(run.architecture, types)
    said = beside(*known, count=default_count(len(types) - len(left_out)), exclude=left_out)
    if all(opinion.method in ("nfn", "nfn-squared") for own in known for opinion in own):
        return None
    order = [kind.type for kind in said[0].order.types]
    order += sorted({kind.type for each in said for kind in each.order.types} - {*order})
    return Matrix(
        model,
        tuple(answer.task for answer in answers),
        tuple(order),
        tuple(_row(each, order) for each in said if each.order.types),
        _layers(said),
        (*_left_out([each.opinion for each in said]), *_not_of_all(known, [answer.task for answer in answers])),
    )


def _named(opinion: Opinion) -> Opinion:
    """With no name longer than a page can hold."""
    return replace(opinion, values=tuple(each._replace(type=short(each.type)) for each in opinion.values))


def _row(said: Said, types: Sequence[str]) -> Row:
    order = said.order
    last = max(1, len(order.types) - 1)
    places = {
        each.type: Place(at + 1, _value(each.value), each.type in order.chosen, round(at * (SHADES - 1) / last))
        for at, each in enumerate(order.types)
    }
    return Row(order.method.name, said.opinion.looks_at, tuple(map(places.get, types)), said.shared, said.tau)


def _value(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _layers(said: Sequence[Said]) -> str:
    """What is said of layers by a method that tells no types apart."""
    layers = next((each.opinion.values for each in said if of_layers(each.opinion)), ())
    ranked = sorted(layers, key=lambda layer: -layer.value)
    some = min(_LAYERS, len(ranked) // 2)
    if not some:
        return ""
    most, least = (
        listed([f"{short(each.name)} ({each.value:.3f})" for each in end])
        for end in (ranked[:some], ranked[::-1][:some])
    )
    return f"Block influence tells layers apart: most have {most}, least {least}."


def _left_out(opinions: Sequence[Opinion]) -> Iterator[str]:
    for opinion in opinions:
        if opinion.left_out:
            first, count = opinion.left_out[0], len(opinion.left_out)
            more = f" and {count - 1} more" if count > 1 else ""
            yield f"{METHODS[opinion.method].name} leaves out {short(first.name)}{more}: {short(first.reason)}"


def _not_of_all(known: Sequence[Sequence[Opinion]], tasks: Sequence[str]) -> Iterator[str]:
    """Which methods have looked at some of the tasks, and so are not in the mean."""
    methods = [{opinion.method for opinion in own} for own in known]
    for key in (key for key in METHODS if any(key in own for own in methods)):
        if without := [short(task) for own, task in zip(methods, tasks, strict=True) if key not in own]:
            yield f"{METHODS[key].name} was not asked for on {listed(without)}"
