"""A story → its charts, section by section, each with its title."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from plop_cli.comparison.values import Comparison
from plop_cli.report import charts, races, vega
from plop_cli.report.answers import Answer, Group
from plop_cli.report.palette import Row
from plop_cli.report.story import Story
from plop_registry import Race


@dataclass(frozen=True)
class Figure:
    """A chart: what it shows, of what."""

    what: str
    of: str
    spec: vega.Spec

    @property
    def label(self) -> str:
        """Both in one."""
        return f"{self.what}: {self.of}"

    @property
    def svg(self) -> Markup:
        """The picture that stands on the page until the chart is drawn."""
        return Markup(vega.svg(self.spec))


@dataclass(frozen=True)
class Figures:
    """Every chart of a report, with what it is a chart of."""

    types: list[tuple[Group, list[tuple[Group, Figure]]]]
    steps: list[float]
    maps: list[tuple[Answer, Figure]]
    comparisons: list[tuple[Group, Comparison, list[tuple[Group, Figure]]]]
    histories: list[tuple[Answer, Figure]]
    layers: list[tuple[Group, list[tuple[str, Figure]]]]
    samples: list[tuple[Group, Figure]]
    races: list[tuple[Race, list[Row], list[str], Figure]]

    def __iter__(self) -> Iterator[Figure]:
        """One after the other; the types' layer profiles of a group as one."""
        yield from (figure for _, parts in self.types for _, figure in parts)
        yield from (figure for _, figure in self.maps)
        yield from (figure for _, _, parts in self.comparisons for _, figure in parts)
        yield from (figure for _, figure in self.histories)
        for group, panels in self.layers:
            specs = [(name, figure.spec) for name, figure in panels]
            yield Figure("NFN through the layers", group.title, charts.panels(specs))
        yield from (figure for _, figure in self.samples)
        yield from (figure for *_, figure in self.races)


def draw(story: Story) -> Figures:
    """All charts of a story; what it cannot say has none."""
    cells = [(answer, answer.cells(story.types)) for answer in story.drawn]
    steps = charts.colour_steps(cell["nfn"] for _, rows in cells for cell in rows)
    parts = [part for group in story.groups for part in group.parts]
    return Figures(
        types=[(group, _bars(group)) for group in story.groups],
        steps=steps,
        maps=[
            (answer, Figure("NFN-map", answer.title, charts.nfn_map(rows, steps, digits=len(cells) < 3)))
            for answer, rows in cells
            if rows
        ],
        comparisons=[
            (group, comparison, [] if group in story.groups else _bars(group))
            for group, comparison in story.comparisons
        ],
        histories=[
            (answer, Figure("NFN over time", answer.title, charts.timeline(rows)))
            for answer in story.histories
            if (rows := answer.timeline(story.types))
        ],
        layers=[(part, panels) for part in parts if (panels := _panels(part))],
        samples=[
            (part, Figure("NFN over the texts", part.title, charts.sample_spread(rows)))
            for part in parts
            if (rows := part.samples(story.matrices))
        ],
        races=[_race(race) for race in story.races],
    )


def _bars(group: Group) -> list[tuple[Group, Figure]]:
    return [
        (part, Figure("NFN by module type", part.title, charts.type_bars(rows)))
        for part in group.parts
        if (rows := part.bars)
    ]


def _race(race: Race) -> tuple[Race, list[Row], list[str], Figure]:
    rows = races.curves(race)
    figure = Figure("Training loss", f"{race.model_id} on {race.data_id}", charts.learning_curves(rows))
    return race, races.table(race), list(dict.fromkeys(row["series"] for row in rows)), figure


def _panels(group: Group) -> list[tuple[str, Figure]]:
    profiles = group.profiles
    values = [row["nfn"] for rows in profiles.values() for row in rows]
    return [
        (name, Figure(f"NFN of {name} through the layers", group.title, charts.layer_profile(rows, values)))
        for name, rows in profiles.items()
    ]
