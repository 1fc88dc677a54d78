"""From what was asked for by name to a race: model, examples, PLoP's scores, contestants, laps.

start(Asked("demo", "train.jsonl"), registry, watch=Watch())
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from plop_cli.errors import PlopError, require
from plop_cli.hub import Line, through
from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.options import Loading
from plop_cli.models.quantization import package_of
from plop_cli.models.source import ModelSource, identify
from plop_cli.opinions.methods import METHODS, OF_ACTIVATIONS
from plop_cli.placement.recommend import StoredScores
from plop_cli.processes import ALONE, Group, own_device, size
from plop_cli.progress import says
from plop_cli.racing.identity import Setting
from plop_cli.racing.sources import Source, read
from plop_cli.racing.tuning import RATES, grid
from plop_cli.racing.watch import Watch
from plop_cli.runs.exchange import keep
from plop_cli.runs.identity import Identity, places
from plop_cli.runs.kept import has_opinions, wanted
from plop_cli.runs.opinions import of_weights
from plop_cli.runs.revisions import names_of
from plop_cli.scoring.settings import settings
from plop_cli.texts.tasks import Task
from plop_registry import Opinion, Race, Registry

if TYPE_CHECKING:
    from plop_cli.racing.examples import Data

SCORED = 100
"""Training prompts, at most, that PLoP chooses by; each cut to LENGTH tokens, as `plop score` does."""

LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `plop race` was asked for. Fields are named as the options are."""

    model: str
    data: str
    test: str | None = None
    contestants: tuple[str, ...] = ("plop", "mlp", "attn", "all")
    rank: int | None = None
    match: str | None = None
    budget: int | None = None
    steps: int = 60
    batch: int = 8
    dropout: float = 0.0
    seeds: int = 3
    rates: str = RATES
    minutes: float | None = None
    max_length: int = 512
    tested: int = 200
    loading: Loading = field(default_factory=Loading)

    @property
    def setting(self) -> Setting:
        """How each lap trains."""
        fixed = f"rank {self.rank}" if self.rank else f"{self.budget:,} parameters" if self.budget else ""
        return Setting(self.steps, self.batch, self.dropout, self.match or fixed)


def start(
    asked: Asked, registry: Registry, *, watch: Watch | None = None, join: Callable[[], Group] = lambda: ALONE
) -> Race:
    """Run the race, or what of it is not stored yet.

    Raises PlopError for what does not exist, does not fit together or cannot be trained; RegistryError where laps
    cannot be stored.
    """
    require("peft", "plop race", extra="race")
    watch = watch or Watch()
    setting = asked.setting
    grid(asked.rates)  # what can be wrong is said before anything is loaded
    device = own_device(resolve_device(asked.loading.device))
    with through(Line()):
        examples, test = _read(asked)
        found = identify(asked.model, asked.loading)
        source = names_of(asked.model, found, asked.loading, registry)[0]
    loading, why = resolve_dtype(replace(asked.loading, device=device), source)
    if why:
        watch.note(why)
    says("importing torch and transformers")
    from plop_cli.models.loading import load
    from plop_cli.network.anatomy import anatomy
    from plop_cli.racing.contestants import contestants, needs_scores
    from plop_cli.racing.examples import draw
    from plop_cli.racing.race import race

    group = join()
    with group.together():
        model, tokenizer = load(source, loading)
        data = draw(tokenizer, examples, test, longest=asked.max_length, tested=asked.tested)
    for note in data.notes:
        watch.note(note)
    scores: StoredScores | None = None
    if needs_scores(asked.contestants, asked.match):
        asks = any(name in OF_ACTIVATIONS for name in asked.contestants)
        scores = _scored(model, tokenizer, source, loading, data, registry, group, watch, opinions=asks)

    placements = contestants(
        asked.contestants,
        anatomy(model),
        scores,
        lambda reference: _stored(reference, registry),
        lambda method: _opinion(method, model, source, loading, scores, registry, group, watch),
        rank=asked.rank,
        match=asked.match,
        budget=asked.budget,
    )
    return race(
        model,
        tokenizer,
        data,
        placements,
        setting=setting,
        seeds=asked.seeds,
        rates=asked.rates,
        minutes=asked.minutes,
        registry=registry,
        name=source.id,
        revision=source.revision,
        label=source.label,
        loaded={"quantization": source.quantization, "adapter": source.adapter_hash},
        nfn={score.type: score.nfn for score in scores.run.types} if scores else None,
        group=group,
        watch=watch,
    )


def _stored(reference: str, registry: Registry) -> StoredScores:
    run = registry.get(reference)
    return StoredScores(run, registry.matrix(run.id))


def _opinion(
    method: str,
    model: Any,
    source: ModelSource,
    loading: Loading,
    scores: StoredScores | None,
    registry: Registry,
    group: Group,
    watch: Watch,
) -> Opinion:
    """What a method says of the model, or of the run on the training prompts, in all processes: the first asks."""
    found: Opinion | None = None
    with group.together():
        if group.rank == 0 and METHODS[method].looks_at == "weights":
            found = of_weights(source, loading, registry, model=model, note=watch.note)[method]
        elif group.rank == 0 and scores is not None:
            found = wanted(method, scores.run, registry)
    said: Opinion = group.gather(found)[0]
    return said


def _read(asked: Asked) -> tuple[Source, Source | None]:
    if "-" in (asked.data, asked.test) and size() > 1:
        raise PlopError("standard input can be read by one process alone; write the examples to a file")
    return read(asked.data), None if asked.test is None else read(asked.test)


def _scored(
    model: Any,
    tokenizer: Any,
    source: ModelSource,
    loading: Loading,
    data: Data,
    registry: Registry,
    group: Group,
    watch: Watch,
    *,
    opinions: bool,
) -> StoredScores:
    """The run of the model on the training prompts: from the registry, else scored and stored now."""
    from plop_cli.scoring.score import score

    texts = data.prompts[:SCORED]
    task = Task(data.name, data.hash, texts)
    identity = Identity(
        model_id=source.id,
        model_label=source.label,
        model_revision=source.revision,
        task=task,
        settings=settings(
            samples=len(texts),
            max_length=LENGTH,
            seed=0,
            dtype=loading.dtype,
            chat=False,
            quantization=source.quantization,
            adapter=source.adapter_hash,
        ),
        places=places(source, ""),
    )
    known = group.gather(registry.find(identity.key))[0]
    if known is not None and (not opinions or group.gather(has_opinions(known, registry))[0]):
        watch.note(f"PLoP's scores on the training prompts are from the registry ({known.id})")
        return StoredScores(known, registry.matrix(known.id))
    with group.together():
        scores = score(model, tokenizer, texts, max_length=LENGTH, opinions=opinions, group=group)
    package = package_of(source.quantization)
    run = identity.run(scores, [package] if package else [])
    if group.rank == 0:
        run = keep(registry, run, scores.matrix, scores.opinions)
    return StoredScores(run, scores.matrix)
