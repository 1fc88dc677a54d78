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
from typing import Any

from plop_cli.comparison.compare import compare
from plop_cli.comparison.values import Comparison
from plop_cli.errors import PlopError
from plop_cli.printable import short
from plop_cli.report.answers import Answer, Group, Pick
from plop_cli.report.opinions import Matrix
from plop_cli.report.opinions import matrices as matrices_of
from plop_cli.report.races import races_of
from plop_cli.runs.axes import AXES, in_training_order
from plop_cli.runs.selection import find_runs
from plop_registry import Race, Registry, RegistryError, Run, SampleMatrix

DRAWN = 50
"""How many answers have figures: the newest, where there are more."""


@dataclass(frozen=True)
class Story:
    """Everything that a report says.

    `drawn` are the answers that have figures, of the types that fit `pattern`; `damaged` says why a run's sample matrix
    cannot be read, by run id; `races` are those of the same models, `opinions` what other methods say of those drawn.
    """

    answers: tuple[Answer, ...]
    drawn: tuple[Answer, ...]
    pattern: str
    matrices: dict[str, SampleMatrix]
    damaged: dict[str, str]
    races: tuple[Race, ...] = ()
    opinions: tuple[Matrix, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """All runs, newest first."""
        runs = [run for answer in self.answers for run in answer.runs]
        return sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)

    @cached_property
    def models(self) -> list[str]:
        """Every model."""
        return list(dict.fromkeys(answer.model for answer in self.answers))

    @cached_property
    def tasks(self) -> list[str]:
        """Every task."""
        return list(dict.fromkeys(answer.task for answer in self.answers))

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types that are drawn, lowest mean NFN first: the one order of all figures."""
        values = defaultdict[str, list[float]](list)
        for score in (score for answer in self.drawn for score in answer.run.types):
            if math.isfinite(score.nfn) and fnmatchcase(score.type, self.pattern):
                values[score.type].append(score.nfn)
        return tuple(sorted(values, key=lambda type: (fmean(values[type]), type)))

    @cached_property
    def picks(self) -> list[Pick]:
        """What to adapt, by model and set."""
        same = defaultdict[tuple[str, frozenset[str]], list[Answer]](list)
        for answer in self.answers:
            same[answer.model, frozenset(answer.run.recommended)].append(answer)
        return [Pick(model, tuple(answers)) for (model, _), answers in same.items()]

    @cached_property
    def groups(self) -> list[Group]:
        """Every drawn answer once: beside its model's other tasks, or where no model has others, its task's models."""
        tasks = self._groups("task")
        return tasks if any(len(group.answers) > 1 for group in tasks) else self._groups("model")

    @cached_property
    def comparisons(self) -> list[tuple[Group, Comparison]]:
        """The tasks of each model and the models on each task, where several have their matrices."""
        comparisons = []
        for group in (*self._groups("task"), *self._groups("model")):
            scored = [answer.run for answer in group.answers if answer.run.id in self.matrices]
            if len(scored) > 1:
                runs = [(run, self.matrices[run.id]) for run in scored]
                comparisons.append((group, compare(runs, by=group.by, types=self.pattern)))
        return comparisons

    @property
    def histories(self) -> list[Answer]:
        """The drawn answers that have several runs."""
        return [answer for answer in self.drawn if len(answer.runs) > 1]

    @property
    def skipped(self) -> list[tuple[str, str, int, str]]:
        """What was not scored: model, reason, how many modules, and one of them."""
        modules = defaultdict[tuple[str, str], set[str]](set)
        for answer in self.answers:
            for skipped in answer.run.skipped:
                modules[answer.model, skipped.reason].add(skipped.name)
        return [(model, reason, len(names), min(names)) for (model, reason), names in modules.items()]

    def _groups(self, by: str) -> list[Group]:
        named = defaultdict[str, list[Answer]](list)
        for answer in self.drawn:
            named[answer.model if by == "task" else answer.task].append(answer)
        return [Group(name, by, tuple(answers), self._types_of(answers)) for name, answers in named.items()]

    def _types_of(self, answers: Sequence[Answer]) -> tuple[str, ...]:
        own = {score.type for answer in answers for score in answer.run.types}
        return tuple(type for type in self.types if type in own)


def tell(runs: Sequence[Run], registry: Registry, *, types: str = "*") -> Story:
    """The story of these runs, in their order; modules and matrices of those drawn are read from their registry.

    Args: `types`, a shell glob: what is drawn and compared.
    """
    answers = _answers(list(map(_named, runs)))
    newest = sorted(range(len(answers)), key=lambda index: answers[index].run.created_at, reverse=True)[:DRAWN]
    matrices, damaged = {}, {}
    for index in newest:
        answers[index] = answer = _with_modules(answers[index], registry)
        try:
            if answer.runs:
                matrices[answer.run.id] = registry.matrix(answer.run.id)
        except RegistryError as error:
            damaged[answer.run.id] = str(error)
    drawn = tuple(answers[index] for index in sorted(newest) if answers[index].runs)
    if not drawn:
        raise PlopError("none of the runs to report is sound; plop registry check says what is wrong")
    races = races_of(registry.races.all(limit=DRAWN), runs)
    answered, opinions = tuple(answer for answer in answers if answer.runs), matrices_of(drawn, registry)
    return Story(answered, drawn, types, matrices, damaged, races, opinions)


def tell_stored(
    registry: Registry, references: Sequence[str] = (), *, limit: int | None = None, **filters: Any
) -> Story:
    """The story of the runs that are named, or of the newest `limit` that fit the filters (`selection.find_runs`)."""
    if references:
        runs = [registry.get(reference) for reference in references]
    else:
        runs = find_runs(registry, filters, limit=limit)[::-1]
    return tell(list({run.id: run for run in runs}.values()), registry, types=filters.get("type") or "*")


def _answers(runs: Sequence[Run]) -> list[Answer]:
    """An answer for each model and task; a model that was scored in several dtypes is several."""
    dtypes = defaultdict[str, set[str]](set)
    for run in runs:
        dtypes[run.model_name].add(AXES["dtype"](run))
    told = defaultdict[str, dict[str, list[Run]]](lambda: defaultdict(list))
    for run in runs:
        model = f"{run.model_name} {AXES['dtype'](run)}" if len(dtypes[run.model_name]) > 1 else run.model_name
        told[model][run.task_name].append(run)
    return [
        Answer(model, task, tuple(in_training_order(group)))
        for model, tasks in told.items()
        for task, group in tasks.items()
    ]


def _with_modules(answer: Answer, registry: Registry) -> Answer:
    """The answer whose last run has its modules: the last that is sound."""
    runs = answer.runs
    while runs and not (last := registry.with_modules(runs[-1:])):
        runs = runs[:-1]
    return replace(answer, runs=(*runs[:-1], *map(_named, last)) if runs else ())


def _named(run: Run) -> Run:
    """The run with no name longer than a page can hold."""
    return replace(
        run,
        model_id=short(run.model_name),
        model_label=short(run.label_name),
        task_id=short(run.task_name),
        types=tuple(replace(score, type=short(score.type)) for score in run.types),
        modules=tuple(replace(module, type=short(module.type), name=short(module.name)) for module in run.modules),
    )
