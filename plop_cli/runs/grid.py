"""Every model on every task: answer from the registry what it has, score the rest, keep what was scored.

    for cell in score_grid(["demo"], ["sample/math"], Request(), registry):
        cell.run or cell.error

A model is loaded once, and only if one of its cells is not in the registry. A cell that fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError
from plop_cli.hub import Line, through
from plop_cli.method.choice import PLOP, Rule, sure
from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.quantization import package_of
from plop_cli.models.source import Loading, ModelSource, identify
from plop_cli.placement.refused import trainable
from plop_cli.processes import ALONE, Group, own_device, size
from plop_cli.runs.identity import Identity
from plop_cli.scoring.settings import settings
from plop_cli.texts.tasks import Task, load_task
from plop_cli.texts.text import text_ids
from plop_registry import Registry, RegistryError, Run

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

Advance = Callable[[int, int], None]
Show = Callable[[str], AbstractContextManager[Advance]]
"""What shows progress: entered with what is being done, it gives a function of (tokens done, tokens in all)."""


@dataclass(frozen=True)
class Request:
    """What `plop score` was asked for, the same for all its cells. Fields are named as the options are."""

    samples: int = 100
    max_length: int = 256
    batch_tokens: int | None = None
    seed: int = 0
    column: str | None = None
    template: str | None = None
    chat: bool = False
    include: tuple[str, ...] = ()
    loading: Loading = field(default_factory=Loading)
    force: bool = False
    """Score anew what the registry already has."""
    until: float | None = None
    """Score only until the set that `rule` chooses is the same in this share of resamples, `samples` at most."""
    rule: Rule = PLOP


@dataclass(frozen=True)
class Cell:
    """One model on one task: a run, or why there is none; both where a run was made and could not be stored."""

    model: str
    task: str
    run: Run | None = None
    cached: bool = False
    error: str | None = None


@dataclass(frozen=True)
class _Job:
    """A cell that can be scored: a model as found, to be loaded as `loading` says, and the texts of a task."""

    model: str
    source: ModelSource
    loading: Loading
    task: Task
    request: Request

    def identity(self, samples: int | None = None) -> Identity:
        """What the run of the first `samples` texts, or of all, is known by."""
        task, request = replace(self.task, texts=self.task.texts[:samples]), self.request
        return Identity(
            model_id=self.source.id,
            model_label=self.source.label,
            model_revision=self.source.revision,
            task=task,
            settings=settings(
                samples=len(task.texts),
                max_length=request.max_length,
                seed=request.seed,
                dtype=self.loading.dtype,
                chat=request.chat,
                include=request.include,
                quantization=self.source.quantization,
                adapter=self.source.adapter_hash,
            ),
        )


def score_grid(
    models: Sequence[str],
    tasks: Sequence[str],
    request: Request,
    registry: Registry,
    *,
    show: Show = lambda what: nullcontext(lambda done, total: None),
    note: Callable[[str], None] = lambda text: None,
    join: Callable[[], Group] = lambda: ALONE,
) -> Iterator[Cell]:
    """Yield a cell for every model and task, model by model, as soon as it is known.

    Args:
        show: displays progress.
        note: is told what a user would not guess (a short source, a changed dtype).
        join: connects the processes that score together (`processes.join`); called if there is something to score. All
            walk the same grid, each scores its share, and only the first stores.
    """
    line = Line()
    device = own_device(resolve_device(request.loading.device))
    with through(line):
        drawn = _drawn(tasks, request, note)
    scored: dict[str, Run] = {}
    for model in dict.fromkeys(models):
        try:
            with through(line):
                source = identify(model, request.loading)
            loading, why = resolve_dtype(replace(request.loading, device=device), source)
            if why:
                note(why)
        except PlopError as error:
            yield from (Cell(model, name, error=str(error)) for name in drawn)
            continue
        jobs = []
        for name, task in drawn.items():
            if isinstance(task, PlopError):
                yield Cell(model, name, error=str(task))
                continue
            job = _Job(model, source, loading, task, request)
            known = scored.get(job.identity().key)
            if not request.force and (run := known or _stored(job, registry)):
                yield Cell(model, name, run, cached=True)
            else:
                jobs.append(job)
        if jobs:
            for job, cell in zip(jobs, _score(jobs, registry, show, join), strict=True):
                if cell.run:
                    scored[job.identity().key] = cell.run
                yield cell


def _drawn(tasks: Sequence[str], request: Request, note: Callable[[str], None]) -> dict[str, Task | PlopError]:
    """The texts of each task, or why there are none."""
    drawn: dict[str, Task | PlopError] = {}
    for name in dict.fromkeys(tasks):
        try:
            if name == "-" and size() > 1:
                raise PlopError("standard input can be read by one process alone; write the texts to a file")
            drawn[name] = task = load_task(
                name,
                samples=request.samples,
                seed=request.seed,
                column=request.column,
                template=request.template,
            )
            for text in task.notes:
                note(text)
        except PlopError as error:
            drawn[name] = error
    return drawn


def _stored(job: _Job, registry: Registry) -> Run | None:
    """The stored run that answers: of these very texts, or with `until`, of as few of the first as decide it."""
    request = job.request
    if request.until is None:
        return registry.find(job.identity().key)
    ids = text_ids(job.task.texts)
    wanted = job.identity(samples=0).settings
    for stored in sorted(registry.runs(revision=job.source.revision), key=lambda run: run.samples):
        if (stored.task_id, stored.settings | {"samples": 0}) != (job.task.id, wanted):
            continue
        run, matrix = registry.get(stored.id), registry.matrix(stored.id)
        both, types = min(len(ids), run.samples), [module.type for module in run.modules]
        if (matrix.texts[:both] == ids[:both]).all() and (
            run.samples >= len(ids)
            or sure(types, matrix, trainable(request.rule, run.architecture, types), seed=request.seed) >= request.until
        ):
            return run
    return None


def _score(jobs: Sequence[_Job], registry: Registry, show: Show, join: Callable[[], Group]) -> Iterator[Cell]:
    """The cells of jobs of one model, which is loaded once."""
    from plop_cli.models.loading import load

    source, loading = jobs[0].source, jobs[0].loading
    try:
        group = join()
        with show(f"loading {source}"), group.together():
            model, tokenizer = load(source, loading)
            if group.rank == 0:
                registry.upgrade()  # before any work: a registry that cannot be written must not cost a forward pass
    except (PlopError, RegistryError) as error:
        yield from (Cell(job.model, job.task.id, error=str(error)) for job in jobs)
        return
    for job in jobs:
        yield _score_one(job, model, tokenizer, registry, show, group)


def _score_one(
    job: _Job, model: nn.Module, tokenizer: PreTrainedTokenizerBase, registry: Registry, show: Show, group: Group
) -> Cell:
    from plop_cli.scoring.score import score

    request = job.request
    try:
        key = job.identity().key
        if set(group.gather(key)) != {key}:
            raise PlopError("the processes do not see the same weights and texts; give all the same files")
        with show(f"{job.source} on {job.task.id}") as advance:
            scores = score(
                model,
                tokenizer,
                job.task.texts,
                max_length=request.max_length,
                batch_tokens=request.batch_tokens,
                seed=request.seed,
                chat=request.chat,
                include=request.include,
                until=request.until,
                rule=request.rule,
                progress=advance,
                group=group,
            )
    except PlopError as error:
        return Cell(job.model, job.task.id, error=str(error))
    packages = ["peft" if job.source.adapter else None, package_of(job.source.quantization)]
    run = job.identity(len(scores.matrix.texts)).run(scores, [name for name in packages if name])
    try:
        return Cell(job.model, job.task.id, registry.add(run, scores.matrix) if group.rank == 0 else run)
    except RegistryError as error:
        return Cell(job.model, job.task.id, run, error=f"the run was not stored: {error}")
