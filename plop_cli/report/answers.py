"""Runs as a report looks at them: lines (one model on one task), picks and groups of these, and the rows of a chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plop_cli.method.estimates import by_type
from plop_cli.method.layers import layer_means
from plop_cli.report.palette import SERIES, Row
from plop_cli.runs.axes import AXES
from plop_registry import Run, SampleMatrix, TypeScore

POINTS = 100
"""How many points one timeline draws: the last, where there are more."""
_QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Line:
    """One model on one task: its runs in order, of which the last is the answer."""

    model: str
    task: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """What it is of."""
        return f"{self.model} on {self.task}"

    @property
    def run(self) -> Run:
        """The answer."""
        return self.runs[-1]

    @property
    def chosen(self) -> list[TypeScore]:
        """The types that PLoP adapts, lowest NFN first."""
        return [score for score in self.run.types if score.recommended]

    @property
    def next(self) -> TypeScore | None:
        """The lowest type that is not adapted."""
        return next((score for score in self.run.types if not score.recommended), None)

    @property
    def points(self) -> list[tuple[str, Run]]:
        """Its runs by revision, or by when they were scored where that tells more of them apart."""
        ways: tuple[Callable[[Run], str], ...] = (
            AXES["revision"],
            lambda run: f"{run.created_at:%Y-%m-%d %H:%M}",
            lambda run: f"{run.created_at:%Y-%m-%d} {run.id}",
        )
        named = [[way(run) for run in self.runs] for way in ways]
        return list(zip(max(named, key=lambda names: len(set(names))), self.runs, strict=True))

    def timeline(self, types: Collection[str]) -> list[Row]:
        """Rows for `charts.timeline`: its last points."""
        return [
            {"point": name, "type": score.type, "nfn": short(score.nfn), "chosen": score.recommended}
            for name, run in self.points[-POINTS:]
            for score in run.types
            if math.isfinite(score.nfn) and score.type in types
        ]

    def cells(self, types: Iterable[str]) -> list[Row]:
        """Rows for `charts.nfn_map`, type by type: the mean over the modules that share type and layer."""
        means = layer_means(self.run.modules)
        return [
            {"layer": "–" if layer is None else layer, "type": type, "nfn": short(mean)}
            for wanted in types
            for (layer, type), mean in means.items()
            if type == wanted
        ]


@dataclass(frozen=True)
class Pick:
    """Tasks of one model that get the same types."""

    model: str
    lines: tuple[Line, ...]

    @property
    def nfn(self) -> dict[str, str]:
        """What to adapt: the NFN of each type, or its range over the tasks."""
        found: dict[str, list[float]] = {}
        for score in (score for line in self.lines for score in line.chosen):
            found.setdefault(score.type, []).append(score.nfn)
        return {name: "–".join(dict.fromkeys((f"{min(v):.2f}", f"{max(v):.2f}"))) for name, v in found.items()}

    @property
    def confidence(self) -> float | None:
        """That of the least sure task; None where one is unknown."""
        known = [line.run.confidence for line in self.lines if line.run.confidence is not None]
        return min(known) if len(known) == len(self.lines) else None


@dataclass(frozen=True)
class Group:
    """Lines that share a chart: the tasks of a model (`by` is "task"), or the models on a task ("model")."""

    name: str
    by: str
    lines: tuple[Line, ...]
    types: tuple[str, ...]
    part: str = ""
    """Which part of a larger group it is."""

    @property
    def title(self) -> str:
        """What the chart is of."""
        return f"{self.name}{self.part}" if len(self.lines) > 1 else self.lines[0].title

    @property
    def series(self) -> list[str]:
        """A name for each line."""
        return [getattr(line, self.by) for line in self.lines]

    @property
    def parts(self) -> list[Group]:
        """The group in equal parts that are small enough for one chart each."""
        count = math.ceil(len(self.lines) / SERIES)
        size = math.ceil(len(self.lines) / count)
        return [
            replace(self, lines=self.lines[start : start + size], part=f" ({number} of {count})" if count > 1 else "")
            for number, start in enumerate(range(0, len(self.lines), size), start=1)
        ]

    @property
    def bars(self) -> list[Row]:
        """Rows for `charts.type_bars`."""
        return [
            {"type": name, "series": series, "nfn": short(score.nfn), "chosen": score.recommended, **_interval(score)}
            for name in self.types
            for series, line in zip(self.series, self.lines, strict=True)
            for score in line.run.types
            if score.type == name and math.isfinite(score.nfn)
        ]

    @property
    def profiles(self) -> dict[str, list[Row]]:
        """Rows for `charts.layer_profile`, by type, where a type is in several layers."""
        found: dict[str, list[Row]] = {name: [] for name in self.types}
        for series, line in zip(self.series, self.lines, strict=True):
            for cell in line.cells(self.types):
                if cell["layer"] != "–":
                    found[cell["type"]].append({"layer": cell["layer"], "series": series, "nfn": cell["nfn"]})
        return {name: rows for name, rows in found.items() if len({row["layer"] for row in rows}) > 1}

    def samples(self, matrices: Mapping[str, SampleMatrix]) -> list[Row]:
        """Rows for `charts.sample_spread`, of the lines whose matrix is at hand and has several texts."""
        rows = []
        for series, line in zip(self.series, self.lines, strict=True):
            matrix = matrices.get(line.run.id)
            if matrix is None or len(matrix.texts) < 2:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                means = by_type(matrix.sums / matrix.counts, [module.type for module in line.run.modules])
            for name in (name for name in self.types if name in means and np.isfinite(means[name]).any()):
                spread = np.nanpercentile(means[name], _QUANTILES).tolist()
                quantiles = {f"p{q}": short(value) for q, value in zip(_QUANTILES, spread, strict=True)}
                rows.append({"type": name, "series": series, **quantiles})
        return sorted(rows, key=lambda row: self.types.index(row["type"]))


def short(value: float) -> float:
    """As much of a number as a chart can show."""
    return round(value, 4)


def _interval(score: TypeScore) -> dict[str, Any]:
    """The 95 % interval; None where one text tells none."""
    if score.stderr is None or not math.isfinite(score.stderr):
        return {"low": None, "high": None}
    reach = 1.96 * score.stderr
    return {"low": short(score.nfn - reach), "high": short(score.nfn + reach)}
