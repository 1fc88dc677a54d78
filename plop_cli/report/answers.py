"""Runs as a report looks at them: answers (one model on one task), picks and groups of these, and rows for charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plop_cli.method.estimates import by_type
from plop_cli.method.floor import told
from plop_cli.method.layers import layer_means
from plop_cli.report.palette import SERIES, Row
from plop_cli.runs.axes import AXES
from plop_registry import Run, SampleMatrix, TypeScore

POINTS = 100
"""How many points one timeline draws: the last, where there are more."""
_QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Answer:
    """Where LoRA belongs in one model for one task: its runs in order, of which the last one counts."""

    model: str
    task: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """What is answered."""
        return f"{self.model} on {self.task}"

    @property
    def run(self) -> Run:
        """The run that counts."""
        return self.runs[-1]

    @property
    def confidence(self) -> float | None:
        """How sure that is; None where its texts are too few to say."""
        return told(self.run.confidence, self.run.samples)

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
        labels: tuple[Callable[[Run], str], ...] = (
            AXES["revision"],
            lambda run: f"{run.created_at:%Y-%m-%d %H:%M}",
            lambda run: f"{run.created_at:%Y-%m-%d} {run.id}",
        )
        named = [[label(run) for run in self.runs] for label in labels]
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
    answers: tuple[Answer, ...]

    @property
    def nfn(self) -> dict[str, str]:
        """What to adapt: the NFN of each type, or its range over the tasks."""
        values: dict[str, list[float]] = {}
        for score in (score for answer in self.answers for score in answer.chosen):
            values.setdefault(score.type, []).append(score.nfn)
        return {type: "–".join(dict.fromkeys((f"{min(nfn):.2f}", f"{max(nfn):.2f}"))) for type, nfn in values.items()}

    @property
    def confidence(self) -> float | None:
        """That of the least sure task; None where one is unknown."""
        known = [answer.confidence for answer in self.answers if answer.confidence is not None]
        return min(known) if len(known) == len(self.answers) else None


@dataclass(frozen=True)
class Group:
    """Answers that share a chart: the tasks of a model (`by` is "task"), or the models on a task ("model")."""

    name: str
    by: str
    answers: tuple[Answer, ...]
    types: tuple[str, ...]
    part: str = ""
    """Which part of a larger group it is."""

    @property
    def title(self) -> str:
        """What the chart is of."""
        return f"{self.name}{self.part}" if len(self.answers) > 1 else self.answers[0].title

    @property
    def series(self) -> list[str]:
        """A name for each answer."""
        return [getattr(answer, self.by) for answer in self.answers]

    @property
    def parts(self) -> list[Group]:
        """The group in equal parts that are small enough for one chart each."""
        count = math.ceil(len(self.answers) / SERIES)
        if count == 1:
            return [self]
        size = math.ceil(len(self.answers) / count)
        return [
            replace(self, answers=self.answers[start : start + size], part=f" ({number} of {count})")
            for number, start in enumerate(range(0, len(self.answers), size), start=1)
        ]

    @property
    def bars(self) -> list[Row]:
        """Rows for `charts.type_bars`."""
        return [
            bar(series, score)
            for type in self.types
            for series, answer in zip(self.series, self.answers, strict=True)
            for score in answer.run.types
            if score.type == type and math.isfinite(score.nfn)
        ]

    @property
    def profiles(self) -> dict[str, list[Row]]:
        """Rows for `charts.layer_profile`, by type, where a type is in several layers."""
        profiles: dict[str, list[Row]] = {type: [] for type in self.types}
        for series, answer in zip(self.series, self.answers, strict=True):
            for cell in answer.cells(self.types):
                if cell["layer"] != "–":
                    profiles[cell["type"]].append({"layer": cell["layer"], "series": series, "nfn": cell["nfn"]})
        return {type: rows for type, rows in profiles.items() if len({row["layer"] for row in rows}) > 1}

    def samples(self, matrices: Mapping[str, SampleMatrix]) -> list[Row]:
        """Rows for `charts.sample_spread`, of the answers whose matrix is at hand and has several texts."""
        rows = []
        for series, answer in zip(self.series, self.answers, strict=True):
            matrix = matrices.get(answer.run.id)
            if matrix is None or len(matrix.texts) < 2:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                means = by_type(matrix.sums / matrix.counts, [module.type for module in answer.run.modules])
            for type in (type for type in self.types if type in means and np.isfinite(means[type]).any()):
                spread = np.nanpercentile(means[type], _QUANTILES).tolist()
                quantiles = {f"p{q}": short(value) for q, value in zip(_QUANTILES, spread, strict=True)}
                rows.append({"type": type, "series": series, **quantiles})
        return sorted(rows, key=lambda row: self.types.index(row["type"]))


def short(value: float) -> float:
    """As much of a number as a chart can show."""
    return round(value, 4)


def bar(series: str, score: TypeScore) -> Row:
    """A row for `charts.type_bars`, with the 95 % interval."""
    row = {"type": score.type, "series": series, "nfn": short(score.nfn), "chosen": score.recommended}
    return row | _interval(score)


def _interval(score: TypeScore) -> dict[str, Any]:
    """The 95 % interval; None where one text tells none."""
    if score.stderr is None or not math.isfinite(score.stderr):
        return {"low": None, "high": None}
    reach = 1.96 * score.stderr
    return {"low": short(score.nfn - reach), "high": short(score.nfn + reach)}
