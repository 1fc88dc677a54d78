"""score(): one hooked forward pass over the texts → the NFN of every linear module and module type.

scores = score(model, tokenizer, texts)
scores.types          # lowest NFN first
scores.recommended    # the types that PLoP adapts
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plop_cli import __version__
from plop_cli.errors import PlopError
from plop_cli.method.choice import PLOP, Rule, looks, sure
from plop_cli.models.quantization import name_of
from plop_cli.network.experts import observing
from plop_cli.network.forward import forward
from plop_cli.network.hooks import ForwardHook, evaluating, watching
from plop_cli.network.modules import LinearModule, linear_modules
from plop_cli.network.offload import execution_device, is_offloaded
from plop_cli.network.parts import columns_of_parts, in_parts
from plop_cli.processes import ALONE, Group
from plop_cli.scoring.batches import Batch, batches, tokenize
from plop_cli.scoring.fitting import Fitting
from plop_cli.scoring.measurement import measured, summarize
from plop_cli.scoring.meter import Meter
from plop_cli.scoring.probes import Operator, operators
from plop_cli.scoring.settings import settings
from plop_cli.texts.text import Text
from plop_registry import ModuleScore, PartScore, Run, SampleMatrix, Skipped, TypeScore

Progress = Callable[[int, int], None]
"""Called after each batch with the real tokens done so far and in all."""


@dataclass(frozen=True)
class NFNScores:
    """What one pass found, as in the JSON form; `matrix` is what `types` and `modules` were computed from."""

    types: tuple[TypeScore, ...]
    modules: tuple[ModuleScore, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    parts: tuple[PartScore, ...]
    matrix: SampleMatrix
    confidence: float
    tokens: int
    duration: float
    model: dict[str, str]
    settings: dict[str, Any]

    @property
    def recommended(self) -> list[str]:
        """The types that PLoP adapts (paper, Step 3), lowest NFN first."""
        return [score.type for score in self.types if score.recommended]

    def as_run(self, **identity: Any) -> Run:
        """The run to store; `identity` holds what the pass cannot know (key, model and task revisions, versions)."""
        found: dict[str, Any] = {
            "created_at": datetime.now(UTC),
            "architecture": self.model["architecture"],
            "dtype": self.model["dtype"],
            "samples": len(self.matrix.texts),
            "tokens": self.tokens,
            "settings": self.settings,
            "device": self.model["device"],
            "duration": self.duration,
            "confidence": self.confidence,
            "types": self.types,
            "modules": self.modules,
            "skipped": self.skipped,
            "warnings": self.warnings,
            "parts": self.parts,
        }
        return Run(**found | identity)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (`plop score --json`), with empty ids: what was scored in memory is in no registry."""
        nameless = {"key": "", "task_id": "", "task_revision": "", "texts_hash": "", "plop_version": __version__}
        return self.as_run(model_id=self.model["id"], model_revision=self.model["revision"], **nameless).to_dict()


def score(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    max_length: int = 256,
    batch_tokens: int | None = None,
    seed: int = 0,
    chat: bool = False,
    include: Sequence[str] = (),
    until: float | None = None,
    rule: Rule = PLOP,
    progress: Progress | None = None,
    group: Group = ALONE,
) -> NFNScores:
    """NFN of every linear module of `model` on `texts` (paper, Definition 1 and Steps 1 to 3).

    Args:
        model: a transformers model, on any device and in any dtype; left as it was found.
        texts: strings, or conversations (lists of role/content messages), which go through the chat template.
        max_length: tokens per text; longer texts are cut, and `warnings` says how many.
        batch_tokens: tokens per forward, padding included (default 512 on the CPU, 16,384 elsewhere). Scores do not
            depend on it.
        seed: of the 64 probes and of the bootstrap.
        chat: wrap each text as a user turn with the tokenizer's chat template.
        include: towers of a multimodal model to score too, such as "vision", where texts run through them.
        until, rule: stop early: look after 8, 16, 32, … texts, and score no more once the set that `rule` chooses is
            the same in this share of resamples. The scores are those of the texts so far; `warnings` says so.
        group: processes that share the texts (`distributed.join`); each is given all, and gets all scores.

    Raises PlopError where nothing can be scored: no texts, no tokens, no linear module, a text too long for the model.
    """
    started = time.perf_counter()
    modules, skipped = linear_modules(model, include)
    if not modules:
        raise PlopError(f"{type(model).__name__} has no linear module to score; give a transformer with weights")
    _check_length(model, max_length)
    tokens = tokenize(tokenizer, texts, max_length=max_length, chat=chat)
    total = sum(map(len, tokens.ids))
    if not total:
        raise PlopError("no text holds a token to score; give texts that are not empty")

    device = execution_device(modules[0].module)
    modules = in_parts(model, modules, device)
    meter = Meter(samples=len(texts), columns=columns_of_parts(modules)[-1].stop, device=device)
    run = forward(model, include)
    budget, pad = batch_tokens or default_budget(device, is_offloaded(model)), tokenizer.pad_token_id or 0
    ends = list(looks(len(texts), until)) if until else [(len(texts), 1.0)]
    mine: list[list[int]] = []
    for end, _ in ends:
        mine += group.shard(tokens.ids[len(mine) : end])
    start = done = 0

    def step(batch: Batch) -> None:
        here = batch.to(device)
        with meter.batch(here.rows + start, here.mask):
            run(here.input_ids, here.mask)

    fitting = Fitting(step)
    with evaluating(model):
        with group.together():
            probed = operators(modules, _dtype(model), seed=seed)
        with _metered(modules, probed, meter):
            for end, enough in ends:
                with group.together():
                    for batch in batches(mine[start:end], batch_tokens=budget, pad=pad):
                        fitting(batch)
                        done += int(batch.mask.sum())
                        if progress:
                            progress(done, sum(map(len, mine)))
                misfits = set[int]().union(*group.gather(meter.misfits))
                found = measured(modules, probed, group.add(meter.read()), misfits, texts[:end])
                fit, matrix = found.fit, found.matrix
                start = end
                if until:
                    decided = sure([modules[column].type for column in fit.kept], matrix, rule, seed=seed)
                    if decided >= enough:
                        break

    if not fit.kept:
        raise PlopError("no module has a score: " + "; ".join(f"{s.name}: {s.reason}" for s in fit.left_out[:3]))
    warnings = []
    if cut := sum(tokens.cut[:end]):
        warnings.append(f"{cut} of {end} texts were cut at {max_length} tokens (--max-length)")
    if fitting.budget:
        warnings.append(
            f"{budget} tokens did not fit in memory at once: went on with {fitting.budget} (--batch-tokens)"
        )
    if until:
        warnings.append(_why_it_stopped(end, len(texts), decided, until))
    dtype = str(_dtype(model)).removeprefix("torch.")
    types, module_scores, confidence = summarize([modules[column] for column in fit.kept], matrix, seed=seed)
    return NFNScores(
        types=types,
        modules=module_scores,
        skipped=(*skipped, *fit.left_out),
        warnings=(*warnings, *fit.warnings),
        parts=found.parts,
        matrix=matrix,
        confidence=confidence,
        tokens=sum(map(len, tokens.ids[:end])),
        duration=time.perf_counter() - started,
        model={
            "id": str(getattr(getattr(model, "config", None), "_name_or_path", "")),
            "revision": str(getattr(getattr(model, "config", None), "_commit_hash", None) or ""),
            "architecture": type(model).__name__,
            "dtype": dtype,
            "device": str(device),
        },
        settings=settings(
            samples=end,
            max_length=max_length,
            seed=seed,
            dtype=dtype,
            chat=chat,
            quantization=_quantization(model),
            include=include,
        ),
    )


@contextmanager
def _metered(modules: Sequence[LinearModule], probed: Sequence[Operator], meter: Meter) -> Iterator[None]:
    """The meter's hooks on all modules, experts included."""
    dense: dict[nn.Module, ForwardHook] = {}
    columns, parts = (defaultdict[nn.Module, dict[str, Any]](dict) for _ in range(2))
    for column, (m, at) in enumerate(zip(modules, columns_of_parts(modules), strict=True)):
        of_parts = dict(zip(at, m.parts, strict=True))
        if m.expert is None:
            dense[m.module] = meter.hook(column, probed[column].bias, of_parts)
        elif m.expert == 0:
            columns[m.module][m.parameter] = range(column, column + len(getattr(m.module, m.parameter)))
            parts[m.module][m.parameter] = of_parts
    with watching(dense), observing({m: meter.experts_hook(columns[m], parts[m]) for m in columns}):
        yield


def default_budget(device: torch.device, offloaded: bool = False) -> int:
    """Tokens per forward: what fits a CPU's caches, or what fills an accelerator.

    More where each forward fetches weights from elsewhere, which then takes a small part of the time.
    """
    if device.type == "cpu":
        return 4096 if offloaded else 512
    return 65536 if offloaded else 16384


def _why_it_stopped(samples: int, most: int, decided: float, until: float) -> str:
    known = f"the chosen set is the same in {decided:.1%} of resamples"
    if decided >= until:
        return f"{samples} of at most {most} texts were scored: {known}"
    return f"all {most} texts were scored, and still {known}, not in {until:.1%} as wanted"


def _check_length(model: nn.Module, max_length: int) -> None:
    if max_length < 1:
        raise PlopError(f"max_length is {max_length}; give at least 1")
    if (config := getattr(model, "config", None)) is None:
        return
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    limit = limit and limit - _positions_before_the_first(model, limit)
    if limit and max_length > limit:
        raise PlopError(f"the model has {limit} positions; give --max-length {limit} or less")


def _positions_before_the_first(model: nn.Module, positions: int) -> int:
    """RoBERTa and its kin count positions from the one after the padding's."""
    words = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    tables = (m for m in model.modules() if isinstance(m, nn.Embedding) and m is not words)
    return next((m.padding_idx + 1 for m in tables if m.num_embeddings == positions and m.padding_idx is not None), 0)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())


def _quantization(model: nn.Module) -> str | None:
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    return name_of(config if isinstance(config, dict) else config.to_dict()) if config else None
