"""Every model on every task: answer from the registry what it has, score the rest, keep what was scored.

    for cell in score_grid(["demo"], ["sample/math"], Request(), registry):
        cell.run or cell.error

A model is loaded once, and only if one of its cells is not in the registry. A cell that fails does not stop the others.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from plop_cli import __version__
from plop_cli.errors import PlopError
from plop_cli.method.choice import PLOP, Rule, sure
from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.quantization import package_of
from plop_cli.models.source import ModelSource, identify
from plop_cli.processes import join, own_device, size
from plop_cli.scoring.settings import settings
from plop_cli.texts.tasks import Task, load_task
from plop_cli.texts.text import text_ids
from plop_registry import Registry, RegistryError, Run, run_key

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
    dtype: str = "auto"
    device: str = "auto"
    revision: str | None = None
    column: str | None = None
    template: str | None = None
    chat: bool = False
    include: tuple[str, ...] = ()
    trust_remote_code: bool = False
    allow_pickle: bool = False
    force: bool = False
    load_in: str | None = None
    adapter: str | None = None
    offload: str | None = None
    max_memory: str | None = None
    split: bool = False
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
    """A cell that can be scored."""

    model: str
    task: Task


def score_grid(
    models: Sequence[str],
    tasks: Sequence[str],
    request: Request,
    registry: Registry,
    *,
    show: Show = lambda what: nullcontext(lambda done, total: None),
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Cell]:
    """Yield a cell for every model and task, model by model, as soon as it is known.

    Under torchrun all processes walk the same grid, each scores its share, and only the first stores.

    Args: `show` displays progress; `note` is told what a user would not guess (a short source, a changed dtype).
    """
    device = own_device(resolve_device(request.device))
    scored: dict[str, Run] = {}
    drawn: dict[str, Task | PlopError] = {}
    for name in dict.fromkeys(tasks):
        try:
            if name == "-" and size() > 1:
                raise PlopError("standard input can be read by one process alone; write the texts to a file")
            drawn[name] = loaded = load_task(
                name,
                samples=request.samples,
                seed=request.seed,
                column=request.column,
                template=request.template,
            )
            for text in loaded.notes:
                note(text)
        except PlopError as error:
            drawn[name] = error
    for model in dict.fromkeys(models):
        try:
            source = identify(model, request.revision, adapter=request.adapter, load_in=request.load_in)
            dtype, why = resolve_dtype(request.dtype, device, source, offloaded=request.offload is not None)
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
            known = scored.get(_key(source, task, request, dtype))
            if not request.force and (run := known or _stored(source, task, request, dtype, registry)):
                yield Cell(model, name, run, cached=True)
            else:
                jobs.append(_Job(model, task))
        if jobs:
            for job, cell in zip(jobs, _score(source, jobs, request, registry, dtype, device, show), strict=True):
                if cell.run:
                    scored[_key(source, job.task, request, dtype)] = cell.run
                yield cell


def _stored(source: ModelSource, task: Task, request: Request, dtype: str, registry: Registry) -> Run | None:
    """The stored run that answers: of these very texts, or with `until`, of as few of the first as decide it."""
    if request.until is None:
        return registry.find(_key(source, task, request, dtype))
    ids = text_ids(task.texts)
    wanted = _settings(source, request, dtype, samples=0)
    for found in sorted(registry.runs(revision=source.revision), key=lambda run: run.samples):
        if (found.task_id, found.settings | {"samples": 0}) != (task.id, wanted):
            continue
        run, matrix = registry.get(found.id), registry.matrix(found.id)
        both = min(len(ids), run.samples)
        if (matrix.texts[:both] == ids[:both]).all() and (
            run.samples >= len(ids)
            or sure([m.type for m in run.modules], matrix, request.rule, seed=request.seed) >= request.until
        ):
            return run
    return None


def _settings(source: ModelSource, request: Request, dtype: str, *, samples: int) -> dict[str, Any]:
    return settings(
        samples=samples,
        max_length=request.max_length,
        seed=request.seed,
        dtype=dtype,
        chat=request.chat,
        include=request.include,
        quantization=source.quantization,
        adapter=source.adapter_hash,
    )


def _key(source: ModelSource, task: Task, request: Request, dtype: str) -> str:
    return run_key(
        model_revision=source.revision,
        task_id=task.id,
        task_revision=task.revision,
        texts_hash=task.texts_hash,
        settings=_settings(source, request, dtype, samples=len(task.texts)),
    )


def _score(
    source: ModelSource, jobs: Sequence[_Job], request: Request, registry: Registry, dtype: str, device: str, show: Show
) -> Iterator[Cell]:
    from plop_cli.models.loading import load
    from plop_cli.models.memory import keep_freed
    from plop_cli.scoring.score import score

    if request.offload is None:
        keep_freed()
    try:
        group = join()
        with show(f"loading {source}"), group.together():
            model, tokenizer = load(
                source,
                dtype=dtype,
                device=device,
                trust_remote_code=request.trust_remote_code,
                allow_pickle=request.allow_pickle,
                offload=request.offload,
                max_memory=request.max_memory,
                split=request.split,
            )
            if group.rank == 0:
                registry.upgrade()  # before any work: a registry that cannot be written must not cost a forward pass
    except (PlopError, RegistryError) as error:
        yield from (Cell(job.model, job.task.id, error=str(error)) for job in jobs)
        return
    for job in jobs:
        try:
            key = _key(source, job.task, request, dtype)
            if set(group.gather(key)) != {key}:
                raise PlopError("the processes do not see the same weights and texts; give all the same files")
            with show(f"{source} on {job.task.id}") as advance:
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
            yield Cell(job.model, job.task.id, error=str(error))
            continue
        scored = replace(job.task, texts=job.task.texts[: len(scores.matrix.texts)])
        run = scores.as_run(
            key=_key(source, scored, request, dtype),
            settings=_settings(source, request, dtype, samples=len(scored.texts)),
            model_id=source.id,
            model_label=source.label,
            model_revision=source.revision,
            task_id=job.task.id,
            task_revision=job.task.revision,
            texts_hash=scored.texts_hash,
            plop_version=__version__,
            versions={"python": platform.python_version()} | _versions(source),
        )
        try:
            yield Cell(job.model, job.task.id, registry.add(run, scores.matrix) if group.rank == 0 else run)
        except RegistryError as error:
            yield Cell(job.model, job.task.id, run, error=f"the run was not stored: {error}")


def _versions(source: ModelSource) -> dict[str, str]:
    """Of the packages that had a part in the digits."""
    packages = ["torch", "transformers", "tokenizers", "numpy", "peft" if source.adapter else None]
    return {name: version(name) for name in (*packages, package_of(source.quantization)) if name}
