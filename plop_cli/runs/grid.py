"""Every model on every task: answer from the registry what it has, score the rest, keep what was scored.

    for cell in score_grid(["demo"], ["sample/math"], Request(), registry):
        cell.run or cell.error

A model is loaded once, and only if one of its cells is not in the registry. A cell that fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError
from plop_cli.hub import Line, through
from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.fingerprints import check_unchanged
from plop_cli.models.quantization import package_of
from plop_cli.models.source import identify
from plop_cli.processes import ALONE, Group, own_device, size
from plop_cli.progress import says
from plop_cli.runs import anatomies
from plop_cli.runs.exchange import keep
from plop_cli.runs.jobs import Job, Request, as_asked, stored
from plop_cli.runs.revisions import names_of
from plop_cli.texts.tasks import Task, load_task
from plop_registry import Registry, RegistryError, Run

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Cell:
    """One model on one task: a run, or why there is none; both where a run was made and could not be stored."""

    model: str
    task: str
    run: Run | None = None
    cached: bool = False
    error: str | None = None


def score_grid(
    models: Sequence[str],
    tasks: Sequence[str],
    request: Request,
    registry: Registry,
    *,
    note: Callable[[str], None] = lambda text: None,
    join: Callable[[], Group] = lambda: ALONE,
) -> Iterator[Cell]:
    """Yield a cell for every model and task, model by model, as soon as it is known.

    Args:
        note: is told what a user would not guess (a short source, a changed dtype).
        join: connects the processes that score together (`processes.join`); called if there is something to score. All
            walk the same grid, each scores its share, and only the first stores.
    """
    line = Line()
    device = own_device(resolve_device(request.loading.device))
    wanted = dict.fromkeys(models)
    alone = len(wanted) * len(set(tasks)) == 1
    with through(line):
        drawn = _drawn(tasks, request, note, alone)
    scored: dict[str, Run] = {}
    for model in wanted:
        try:
            with through(line):
                source, *others = names_of(model, identify(model, request.loading), request.loading, registry)
            loading, why = resolve_dtype(replace(request.loading, device=device), source)
            if why:
                note(why)
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not stop the other cells)
            yield from (Cell(model, name, error=_said(error, alone)) for name in drawn)
            continue
        jobs = []
        for name, task in drawn.items():
            if isinstance(task, str):
                yield Cell(model, name, error=task)
                continue
            job = Job(model, source, loading, task, name, request, tuple(others))
            known = scored.get(job.identity().key)
            if not request.force and (run := known or stored(job, registry)):
                yield Cell(model, name, as_asked(job.identity(), run, registry, note), cached=True)
            else:
                jobs.append(job)
        if jobs:
            for job, cell in zip(jobs, _score(jobs, registry, join, alone), strict=True):
                if cell.run:
                    scored[job.identity().key] = cell.run
                yield cell


def _said(error: Exception, alone: bool) -> str:
    """What a cell says of its error. One that is a bug is raised where no other cell is there to be stopped by it."""
    if isinstance(error, PlopError | RegistryError):
        return str(error)
    if alone:
        raise error
    return f"{type(error).__name__}: {error}; this is a bug: score this cell alone to see where it arises"


def _drawn(tasks: Sequence[str], request: Request, note: Callable[[str], None], alone: bool) -> dict[str, Task | str]:
    """The texts of each task, or why there are none."""
    drawn: dict[str, Task | str] = {}
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
                skip_bad=request.skip_bad,
            )
            for text in task.notes:
                note(text)
        except Exception as error:  # noqa: BLE001  (as above)
            drawn[name] = _said(error, alone)
    return drawn


def _score(jobs: Sequence[Job], registry: Registry, join: Callable[[], Group], alone: bool) -> Iterator[Cell]:
    """The cells of jobs of one model, which is loaded once."""
    says("importing torch and transformers")
    from plop_cli.models.loading import load
    from plop_cli.scoring.tokens import RefusedText

    source, loading = jobs[0].source, jobs[0].loading
    try:
        group = join()
        with group.together():
            model, tokenizer = load(source, loading)
            if group.rank == 0:
                registry.upgrade()  # before any work: a registry that cannot be written must not cost a forward pass
    except Exception as error:  # noqa: BLE001  (as above)
        yield from (Cell(job.model, job.task.id, error=_said(error, alone)) for job in jobs)
        return
    for job in jobs:
        try:
            yield _score_one(job, model, tokenizer, registry, group)
        except RefusedText as error:
            remedy = "--skip-bad passes over such rows, --template makes text of them"
            yield Cell(job.model, job.task.id, error=f"{job.task.place(error.index)}: {error.reason} ({remedy})")
        except Exception as error:  # noqa: BLE001  (as above)
            yield Cell(job.model, job.task.id, error=_said(error, alone))
    if group.rank == 0 and registry.runs(revision=source.revision, limit=1):
        with suppress(PlopError):  # for `plop recommend`, which says it again
            anatomies.keep(source, anatomies.anatomy_of(source, loading, registry), registry)


def _score_one(
    job: Job, model: nn.Module, tokenizer: PreTrainedTokenizerBase, registry: Registry, group: Group
) -> Cell:
    from plop_cli.scoring.score import score

    request = job.request
    key = job.identity().key
    if set(group.gather(key)) != {key}:
        raise PlopError("the processes do not see the same weights and texts; give all the same files")
    scores = score(
        model,
        tokenizer,
        job.task.texts,
        max_length=request.max_length,
        batch_tokens=request.batch_tokens,
        seed=request.seed,
        chat=request.chat,
        include=request.include,
        on=request.on,
        skip_bad=request.skip_bad,
        until=request.until,
        rule=request.rule,
        opinions=request.opinions,
        progress=lambda done, total: says(f"scoring {job.source} on {job.task.id}", done, total, "tokens"),
        group=group,
    )
    check_unchanged(job.source.stamps)
    packages = ["peft" if job.source.adapters else None, package_of(job.source.quantization)]
    identity = job.identity(len(scores.matrix.texts), skipped=scores.settings.get("skip_bad", False))
    run = identity.run(scores, [name for name in packages if name])
    try:
        return Cell(
            job.model, job.task.id, keep(registry, run, scores.matrix, scores.opinions) if group.rank == 0 else run
        )
    except RegistryError as error:
        return Cell(job.model, job.task.id, run, error=f"the run was not stored: {error}")
