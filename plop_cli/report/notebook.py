"""What a notebook shows of each value, and its charts: the report's own. `plop_registry.shown` asks here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plop_cli.comparison.values import Comparison
from plop_cli.errors import PlopError
from plop_cli.names import layer_of
from plop_cli.placement.placement import Placement
from plop_cli.racing.verdicts import winner
from plop_cli.report import cards
from plop_cli.report.answers import Answer, bar, short
from plop_cli.report.palette import SERIES, Row
from plop_cli.report.races import curves
from plop_cli.runs.axes import first_difference, names
from plop_cli.runs.listing import Runs
from plop_cli.scoring.scores import NFNScores
from plop_registry import Race, Run, TypeScore

if TYPE_CHECKING:
    import altair as alt


def html(value: object) -> str:
    """The value as a small table (`cards`)."""
    match value:
        case NFNScores():
            return html(value.nameless())
        case Run():
            return cards.html(cards.run_card(value))
        case Runs():
            return cards.html(cards.runs_card(value))
        case Placement():
            return cards.html(cards.placement_card(value))
        case Comparison():
            return cards.html(cards.comparison_card(value))
        case Race():
            return cards.html(cards.race_card(value))
    raise PlopError(f"a notebook shows no {type(value).__name__}")


def chart(value: object) -> alt.TopLevelMixin:
    """Bars of NFN by module type, of a comparison and the history for each run; the learning curves of a race."""
    from plop_cli.report import charts, vega

    match value:
        case NFNScores():
            return chart(value.nameless())
        case Race():
            rows = curves(value) if value.entries and winner(value) else []
            return vega.chart(charts.learning_curves(_some(rows)), f"Training loss: {value.model_id}")
        case Placement():
            rows = [
                {"type": unit, "series": "", "nfn": short(nfn), "chosen": unit in value.choice.chosen}
                | {"low": None, "high": None}
                for unit, nfn in value.choice.nfn.items()
                if math.isfinite(nfn)
            ]
            return vega.chart(charts.type_bars(_some(rows)), f"NFN, and what gets adapters: {value.model}")
    found = _runs(value)
    of: dict[str, dict[str, TypeScore]] = {
        name: {score.type: score for score in run.types} for name, run in found.items()
    }
    types = dict.fromkeys(type for scores in of.values() for type in scores)
    rows = [
        bar(name, scores[type])
        for type in types
        for name, scores in of.items()
        if type in scores and math.isfinite(scores[type].nfn)
    ]
    return vega.chart(charts.type_bars(_some(rows)), f"NFN by module type: {', '.join(found)}")


def map(value: object) -> alt.TopLevelMixin:
    """The NFN-map of a run. Of a comparison or the history a row for each run, of a race one for each contestant, of a
    placement the layers that get adapters."""
    match value:
        case NFNScores():
            return map(value.nameless())
        case Run():
            cells = Answer(value.model_name, value.task_name, (value,)).cells([score.type for score in value.types])
            if not cells:
                raise PlopError("the run was read without its modules; registry.get(run.id) reads them too")
            return _map(cells, f"NFN-map: {next(iter(_runs(value)))}")
        case Race():
            rows = [(entry.name, {type: value.nfn.get(type) for type in entry.types}) for entry in value.entries]
            return _map(_cells(rows, "contestant"), f"NFN of what races: {value.model_id}", down="contestant")
        case Placement():
            nfn = value.choice.nfn
            cells = [
                {"layer": "–" if (layer := layer_of(place)) is None else layer, "type": type, "nfn": short(known)}
                for place, type in {each.place: each.type for each in value.modules}.items()
                if math.isfinite(known := nfn.get(place, nfn.get(type, math.nan)))
            ]
            return _map(cells, f"Where adapters go, by NFN: {value.model}")
    scores = [(name, {score.type: score.nfn for score in run.types}) for name, run in _runs(value).items()]
    return _map(_cells(scores, "run"), "NFN by run and module type", down="run")


def _runs(value: object) -> Mapping[str, Run]:
    """The runs of a value by name: the first few, as many as a chart can tell apart."""
    match value:
        case Run():
            of = f" on {value.task_name}" if value.task_name else ""
            return {f"{value.model_name}{of}": value}
        case Comparison():
            return {column.name: column.run for column in value.columns[:SERIES]}
        case Runs():
            runs = value.runs[:SERIES]
            return dict(zip(names(runs, first_difference(runs)), runs, strict=True))
    raise PlopError(f"there is no chart of a {type(value).__name__}")


def _cells(rows: Sequence[tuple[str, Mapping[str, float | None]]], down: str) -> list[Row]:
    return [
        {down: name, "type": type, "nfn": short(nfn)}
        for name, scores in rows
        for type, nfn in scores.items()
        if nfn is not None and math.isfinite(nfn)
    ]


def _map(cells: Sequence[Row], title: str, *, down: str = "layer") -> alt.TopLevelMixin:
    from plop_cli.report import charts, vega

    steps = charts.colour_steps(cell["nfn"] for cell in _some(cells))
    return vega.chart(charts.nfn_map(cells, steps, digits=True, down=down), title)


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    if not rows:
        raise PlopError("there is nothing to draw: no NFN is known, or no lap was finished")
    return rows
