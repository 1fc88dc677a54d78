"""What is to be scored: a request, and for each model and task a job, which a stored run may answer already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plop_cli.method.choice import PLOP, Rule, sure
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource
from plop_cli.placement.refused import trainable
from plop_cli.processes import rank
from plop_cli.runs.identity import Identity, places
from plop_cli.runs.kept import has_opinions
from plop_cli.scoring.settings import settings
from plop_cli.texts.tasks import Task
from plop_cli.texts.text import text_ids
from plop_registry import Registry, RegistryError, Run

if TYPE_CHECKING:
    from plop_cli.scoring.tokens import On


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
    on: On = "all"
    """Which tokens are scored: all, or those of answers."""
    skip_bad: bool = False
    """Pass over rows that are no text, and conversations that the chat template refuses."""
    include: tuple[str, ...] = ()
    loading: Loading = field(default_factory=Loading)
    force: bool = False
    """Score anew what the registry already has."""
    until: float | None = None
    """Score only until the set that `rule` chooses is the same in this share of resamples, `samples` at most."""
    rule: Rule = PLOP
    opinions: bool = False
    """Take what other methods say of the activations in the same pass; a run without that is no answer then."""


@dataclass(frozen=True)
class Job:
    """A cell that can be scored: a model as found, to be loaded as `loading` says, and the texts of a task."""

    model: str
    source: ModelSource
    loading: Loading
    task: Task
    given: str
    """The task as it was asked for."""
    request: Request
    others: tuple[ModelSource, ...] = ()
    """The source under other names of its revision, which runs may have too (`revisions.names_of`)."""

    def identity(
        self, samples: int | None = None, *, skipped: bool = False, source: ModelSource | None = None
    ) -> Identity:
        """What the run of the first `samples` texts, or of all, is known by; `skipped`: some were passed over."""
        task, request = replace(self.task, texts=self.task.texts[:samples]), self.request
        source = source or self.source
        return Identity(
            model_id=source.id,
            model_label=source.label,
            model_revision=source.revision,
            task=task,
            settings=settings(
                samples=len(task.texts),
                max_length=request.max_length,
                seed=request.seed,
                dtype=self.loading.dtype,
                chat=request.chat,
                include=request.include,
                on=request.on,
                skipped=skipped,
                quantization=source.quantization,
                adapter=source.adapter_hash,
            ),
            places=places(source, self.given),
        )

    def identities(self, samples: int | None = None) -> list[Identity]:
        """What a run that answers may be known by: where texts may be passed over, some may have been or none."""
        ways = (False, True)[: 1 + self.request.skip_bad]
        sources = (self.source, *self.others)
        return [self.identity(samples, skipped=skipped, source=source) for source in sources for skipped in ways]


def stored(job: Job, registry: Registry) -> Run | None:
    """The stored run that answers: of these very texts, or with `until`, of as few of the first as decide it."""
    request = job.request
    if request.until is None:
        found = filter(None, (registry.find(identity.key) for identity in job.identities()))
        return next((run for run in found if _says_enough(run, request, registry)), None)
    ids = text_ids(job.task.texts)
    wanted = [identity.settings for identity in job.identities(samples=0)]
    of_model = [run for source in (job.source, *job.others) for run in registry.runs(revision=source.revision)]
    fit = (
        run
        for run in sorted(of_model, key=lambda run: run.samples)
        if run.task_id == job.task.id and run.settings | {"samples": 0} in wanted
        if _says_enough(run, request, registry)
    )
    for run, matrix in (whole for known in fit for whole in registry.whole([known])):
        both, types = min(len(ids), run.samples), [module.type for module in run.modules]
        if (matrix.texts[:both] == ids[:both]).all() and (
            run.samples >= len(ids)
            or sure(types, matrix, trainable(request.rule, run.architecture, types), seed=request.seed) >= request.until
        ):
            return run
    return None


def _says_enough(run: Run, request: Request, registry: Registry) -> bool:
    return not request.opinions or has_opinions(run, registry)


def as_asked(identity: Identity, run: Run, registry: Registry, note: Callable[[str], None]) -> Run:
    """The run that answers, under the name that was asked for.

    The same weights in another folder, or of a checkpoint of another name, are stored as a run of their own: whoever
    asked will look for it there. Where that cannot be, the answer is the run as it is called.
    """
    if identity.names(run):
        return run
    own = identity.called(run)
    known = next((known for known in registry.runs(key=run.key) if identity.names(known)), None)
    if rank() > 0:
        return registry.get(known.id) if known else own
    try:
        named = registry.get(known.id) if known else registry.add(own, registry.matrix(run.id))
        if said := registry.opinions.of_run(run.id):
            registry.opinions.keep_of_run(named.id, said.values())
        return named
    except RegistryError as error:
        own_name, other = (f"{one.model_id}@{one.model_label}".rstrip("@") for one in (own, run))
        note(f"the run is not recorded as {own_name}, only as {other}: {error}")
        return replace(own, id=run.id)
