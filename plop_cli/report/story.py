"""What the chosen runs can say, in plain values: a report without its looks.

story = tell(runs, registry)
story.picks[0].nfn                # what to adapt
story.groups[0].bars              # rows for `charts.type_bars`
story.comparisons[0][1].sentence
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from statistics import fmean

from plop_cli.comparison.compare import Comparison, compare
from plop_cli.errors import PlopError
from plop_cli.printable import short
from plop_cli.report.answers import Group, Line, Pick
from plop_cli.runs.axes import AXES, in_training_order
from plop_registry import Registry, RegistryError, Run, SampleMatrix

DRAWN = 50
"""How many lines have figures: the newest, where there are more."""


@dataclass(frozen=True)
class Story:
    """Everything that a report says.

    `drawn` are the lines that have figures, of the types that fit `pattern`; `damaged` says why a run's sample matrix
    cannot be read, by run id.
    """

    lines: tuple[Line, ...]
    drawn: tuple[Line, ...]
    pattern: str
    matrices: dict[str, SampleMatrix]
    damaged: dict[str, str]

    @property
    def runs(self) -> list[Run]:
        """All runs, newest first."""
        every = [run for line in self.lines for run in line.runs]
        return sorted(every, key=lambda run: (run.created_at, run.id), reverse=True)

    @cached_property
    def models(self) -> list[str]:
        """Every model."""
        return list(dict.fromkeys(line.model for line in self.lines))

    @cached_property
    def tasks(self) -> list[str]:
        """Every task."""
        return list(dict.fromkeys(line.task for line in self.lines))

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types that are drawn, lowest mean NFN first: the one order of all figures."""
        found = defaultdict[str, list[float]](list)
        for score in (score for line in self.drawn for score in line.run.types):
            if math.isfinite(score.nfn) and fnmatchcase(score.type, self.pattern):
                found[score.type].append(score.nfn)
        return tuple(sorted(found, key=lambda name: (fmean(found[name]), name)))

    @cached_property
    def picks(self) -> list[Pick]:
        """What to adapt, by model and set."""
        found = defaultdict[tuple[str, frozenset[str]], list[Line]](list)
        for line in self.lines:
            found[line.model, frozenset(line.run.recommended)].append(line)
        return [Pick(model, tuple(lines)) for (model, _), lines in found.items()]

    @cached_property
    def groups(self) -> list[Group]:
        """Every drawn line once: beside its model's other tasks, or where no model has others, its task's models."""
        tasks = self._groups("task")
        return tasks if any(len(group.lines) > 1 for group in tasks) else self._groups("model")

    @cached_property
    def comparisons(self) -> list[tuple[Group, Comparison]]:
        """The tasks of each model and the models on each task, where several have their matrices."""
        found = []
        for group in (*self._groups("task"), *self._groups("model")):
            runs = [(line.run, self.matrices[line.run.id]) for line in group.lines if line.run.id in self.matrices]
            if len(runs) > 1:
                found.append((group, compare(runs, by=group.by, types=self.pattern)))
        return found

    @property
    def histories(self) -> list[Line]:
        """The drawn lines that have several runs."""
        return [line for line in self.drawn if len(line.runs) > 1]

    @property
    def skipped(self) -> list[tuple[str, str, int, str]]:
        """What was not scored: model, reason, how many modules, and one of them."""
        found = defaultdict[tuple[str, str], set[str]](set)
        for line in self.lines:
            for skipped in line.run.skipped:
                found[line.model, skipped.reason].add(skipped.name)
        return [(model, reason, len(names), min(names)) for (model, reason), names in found.items()]

    def _groups(self, by: str) -> list[Group]:
        found = defaultdict[str, list[Line]](list)
        for line in self.drawn:
            found[line.model if by == "task" else line.task].append(line)
        return [Group(name, by, tuple(lines), self._types_of(lines)) for name, lines in found.items()]

    def _types_of(self, lines: Sequence[Line]) -> tuple[str, ...]:
        own = {score.type for line in lines for score in line.run.types}
        return tuple(name for name in self.types if name in own)


def tell(runs: Sequence[Run], registry: Registry, *, types: str = "*") -> Story:
    """The story of these runs, in their order; modules and matrices of those drawn are read from their registry.

    Args: `types`, a shell glob: what is drawn and compared.
    """
    runs = list(map(_named, runs))
    dtypes = defaultdict[str, set[str]](set)
    for run in runs:
        dtypes[run.model_id].add(AXES["dtype"](run))
    found = defaultdict[str, dict[str, list[Run]]](lambda: defaultdict(list))
    for run in runs:
        model = f"{run.model_id} {AXES['dtype'](run)}" if len(dtypes[run.model_id]) > 1 else run.model_id
        found[model][run.task_id].append(run)
    lines = [
        Line(model, task, tuple(in_training_order(of))) for model, tasks in found.items() for task, of in tasks.items()
    ]

    newest = sorted(range(len(lines)), key=lambda place: lines[place].run.created_at, reverse=True)[:DRAWN]
    matrices, damaged = {}, {}
    for place in newest:
        lines[place] = line = _with_modules(lines[place], registry)
        try:
            if line.runs:
                matrices[line.run.id] = registry.matrix(line.run.id)
        except RegistryError as error:
            damaged[line.run.id] = str(error)
    drawn = tuple(lines[place] for place in sorted(newest) if lines[place].runs)
    if not drawn:
        raise PlopError("none of the runs to report is sound; plop registry check says what is wrong")
    return Story(tuple(line for line in lines if line.runs), drawn, types, matrices, damaged)


def _with_modules(line: Line, registry: Registry) -> Line:
    """The line whose last run has its modules: the last that is sound."""
    runs = line.runs
    while runs and not (last := registry.with_modules(runs[-1:])):
        runs = runs[:-1]
    return replace(line, runs=(*runs[:-1], *map(_named, last)) if runs else ())


def _named(run: Run) -> Run:
    """The run with no name longer than a page can hold."""
    return replace(
        run,
        model_id=short(run.model_id),
        model_label=short(run.model_label),
        task_id=short(run.task_id),
        types=tuple(replace(score, type=short(score.type)) for score in run.types),
        modules=tuple(replace(module, type=short(module.type), name=short(module.name)) for module in run.modules),
    )
