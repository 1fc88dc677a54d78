"""score(): one hooked forward pass over the texts → the NFN of every linear module and module type.

scores = score(model, tokenizer, texts)
scores.types          # lowest NFN first
scores.recommended    # the types that PLoP adapts
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from plop_cli import __version__, nfn, statistics
from plop_cli.batches import Batch, batches, tokenize
from plop_cli.distributed import ALONE, Group
from plop_cli.engine import settings
from plop_cli.errors import PlopError
from plop_cli.hooks import evaluating, watching
from plop_cli.memory import Fitting
from plop_cli.meter import Meter
from plop_cli.modules import LinearModule, body, linear_modules
from plop_cli.offload import execution_device, fetched, is_offloaded
from plop_cli.quantization import name_of
from plop_cli.statistics import Array
from plop_cli.texts import Text, text_hash
from plop_registry import ModuleScore, Run, SampleMatrix, Skipped, TypeScore

Progress = Callable[[int, int], None]
"""Called after each batch with the real tokens done so far and in all."""


@dataclass(frozen=True)
class NFNScores:
    """What one pass found. `types` and `modules` as in the JSON form; `matrix` is what they were computed from."""

    types: tuple[TypeScore, ...]
    modules: tuple[ModuleScore, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
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
    progress: Progress | None = None,
    group: Group = ALONE,
) -> NFNScores:
    """NFN of every linear module of `model` on `texts` (paper, Definition 1 and Steps 1 to 3).

    Args:
        model: a transformers model, on any device and in any dtype; left as it was found.
        texts: strings, or conversations (lists of role/content messages), which go through the chat template.
        max_length: tokens per text; longer texts are cut, and `warnings` says how many.
        batch_tokens: tokens per forward, padding included (default 1,024 on the CPU, 16,384 elsewhere). Scores do not
            depend on it.
        seed: of the 64 probes and of the bootstrap.
        chat: wrap each text as a user turn with the tokenizer's chat template.
        group: processes that share the texts (`distributed.join`); each is given all, and gets all scores.

    Raises PlopError where nothing can be scored: no texts, no tokens, no linear module, a text too long for the model.
    """
    started = time.perf_counter()
    modules, skipped = linear_modules(model)
    if not modules:
        raise PlopError(f"{type(model).__name__} has no linear module to score; give a transformer with weights")
    _check_length(model, max_length)
    tokens = tokenize(tokenizer, texts, max_length=max_length, chat=chat)
    total = sum(map(len, tokens.ids))
    if not total:
        raise PlopError("no text holds a token to score; give texts that are not empty")
    warnings = []
    if tokens.truncated:
        warnings.append(f"{tokens.truncated} of {len(texts)} texts were cut at {max_length} tokens (--max-length)")

    device = execution_device(modules[0].module)
    meter = Meter(samples=len(texts), modules=len(modules), device=device)
    forward = body(model)
    options = {"use_cache": False} if "use_cache" in inspect.signature(forward.forward).parameters else {}
    budget, pad, done = batch_tokens or default_budget(device, is_offloaded(forward)), tokenizer.pad_token_id or 0, 0
    mine = group.shard(tokens.ids)
    share = sum(map(len, mine))

    def step(batch: Batch) -> None:
        here = batch.to(device)
        with meter.batch(here.rows, here.mask):
            forward(input_ids=here.input_ids, attention_mask=here.mask.long(), **options)

    fitting = Fitting(step)
    with group.together(), evaluating(model):
        operators = [_operator(module, _dtype(model), seed) for module in modules]
        hooks = {m.module: meter.hook(column, operators[column].bias) for column, m in enumerate(modules)}
        with watching(hooks):
            for batch in batches(mine, batch_tokens=budget, pad=pad):
                fitting(batch)
                done += int(batch.mask.sum())
                if progress:
                    progress(done, share)
    if fitting.budget:
        warnings.append(
            f"{budget} tokens did not fit in memory at once: went on with {fitting.budget} (--batch-tokens)"
        )

    sums, squares, counts = group.add(meter.read())
    misfits = set().union(*group.gather(meter.misfits))
    kept, left_out = _fit_to_average(modules, operators, sums, counts, misfits)
    if not kept:
        raise PlopError("no module has a score: " + "; ".join(f"{s.name}: {s.reason}" for s in left_out[:3]))
    baselines = np.array([operators[column].baseline for column in kept])
    matrix = SampleMatrix(
        texts=np.array([int.from_bytes(text_hash(text)[:8], "little") for text in texts], dtype=np.uint64),
        sums=(sums[:, kept] / baselines[:, 0]).astype(np.float32),
        squares=(squares[:, kept] / baselines[:, 1]).astype(np.float32),
        counts=counts[:, kept].astype(np.int32),
    )
    dtype = str(_dtype(model)).removeprefix("torch.")
    types, module_scores, confidence = summarize([modules[column] for column in kept], matrix, seed=seed)
    return NFNScores(
        types=types,
        modules=module_scores,
        skipped=(*skipped, *left_out),
        warnings=(*warnings, *(f"{s.name} is left out: {s.reason}" for s in left_out)),
        matrix=matrix,
        confidence=confidence,
        tokens=total,
        duration=time.perf_counter() - started,
        model={
            "id": str(getattr(getattr(model, "config", None), "_name_or_path", "")),
            "revision": str(getattr(getattr(model, "config", None), "_commit_hash", None) or ""),
            "architecture": type(model).__name__,
            "dtype": dtype,
            "device": str(device),
        },
        settings=settings(
            samples=len(texts),
            max_length=max_length,
            seed=seed,
            dtype=dtype,
            chat=chat,
            quantization=_quantization(model),
        ),
    )


def default_budget(device: torch.device, offloaded: bool = False) -> int:
    """Tokens per forward: what fits a CPU's caches, or what fills an accelerator.

    Four times that where each forward fetches weights from elsewhere, which then takes a small part of the time.
    """
    return (1024 if device.type == "cpu" else 16384) * (4 if offloaded else 1)


def summarize(
    modules: Sequence[LinearModule], matrix: SampleMatrix, *, seed: int
) -> tuple[tuple[TypeScore, ...], tuple[ModuleScore, ...], float]:
    """Module scores (Step 1), type scores (Step 2) with PLoP's choice marked (Step 3), and how sure that set is."""
    sums, squares = matrix.sums.astype(float), matrix.squares.astype(float)
    counts = matrix.counts.astype(float)
    types = [module.type for module in modules]
    means, means_squared = statistics.module_means(sums, counts), statistics.module_means(squares, counts)
    phi = statistics.influence(sums, counts)
    module_scores = tuple(
        ModuleScore(m.name, m.type, m.layer, m.in_features, m.out_features, *values)
        for m, *values in zip(
            modules,
            means.tolist(),
            means_squared.tolist(),
            statistics.standard_error(phi).tolist(),
            matrix.counts.sum(axis=0).tolist(),
            strict=True,
        )
    )
    type_means = statistics.by_type(means, types)
    recommended = statistics.lowest({name: float(value) for name, value in type_means.items()})
    whole, each = statistics.confidence(sums, counts, types, seed=seed)
    squared, errors = statistics.by_type(means_squared, types), statistics.by_type(phi, types)
    type_scores = tuple(
        TypeScore(
            type=name,
            modules=types.count(name),
            nfn=float(type_means[name]),
            nfn_squared=float(squared[name]),
            stderr=float(statistics.standard_error(errors[name][:, None])[0]),
            recommended=name in recommended,
            confidence=each[name],
        )
        for name in sorted(type_means, key=lambda name: (type_means[name], name))
    )
    return type_scores, module_scores, whole


@dataclass(frozen=True)
class _Operator:
    """What a module does besides W z: its bias, (out,) or None, and what a random input comes out with."""

    bias: Tensor | None
    baseline: nfn.Baseline


def _operator(module: LinearModule, dtype: torch.dtype, seed: int) -> _Operator:
    linear = module.module
    with fetched(linear) as forward:
        weight = linear.weight
        assert isinstance(weight, Tensor)
        readable = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
        u = nfn.unit_probes(module.in_features, seed=seed).to(weight.device, weight.dtype if readable else dtype)
        # A zero input comes out as the bias, whatever the class keeps it in.
        bias = forward(torch.zeros_like(u[:1]))[0] if getattr(linear, "bias", None) is not None else None
        outputs = forward(u) if bias is None else forward(u) - bias
        squares = nfn.norms(weight.flatten()).square() if readable else _sum_of_squares(forward, bias, u)
        return _Operator(bias, nfn.baseline(outputs, u, squares.item() / module.in_features))


def _sum_of_squares(forward: Callable[[Tensor], Tensor], bias: Tensor | None, like: Tensor) -> Tensor:
    """‖W‖_F² of a weight that cannot be read: its columns are what the unit vectors come out as."""
    columns = torch.eye(like.shape[1], dtype=like.dtype, device=like.device).tensor_split(-(-like.shape[1] // 1024))
    outputs = (forward(part) if bias is None else forward(part) - bias for part in columns)
    return torch.stack([nfn.norms(output).square().sum() for output in outputs]).sum()


def _fit_to_average(
    modules: Sequence[LinearModule], operators: Sequence[_Operator], sums: Array, counts: Array, misfits: set[int]
) -> tuple[list[int], list[Skipped]]:
    """The columns that have a score, and the modules that have none, with the reason."""
    kept, left_out = [], []
    for column, module in enumerate(modules):
        reason = None
        if column in misfits:
            reason = "it is not called with one input per token"
        elif not counts[:, column].any():
            reason = "it saw no token"
        elif operators[column].baseline.norm == 0:
            reason = "its weight is zero"
        elif not np.isfinite([*operators[column].baseline, sums[:, column].sum()]).all():
            reason = "its input or output is not finite"
        if reason is None:
            kept.append(column)
        else:
            left_out.append(Skipped(module.name, reason))
    return kept, left_out


def _check_length(model: nn.Module, max_length: int) -> None:
    if max_length < 1:
        raise PlopError(f"max_length is {max_length}; give at least 1")
    if (config := getattr(model, "config", None)) is None:
        return
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit and max_length > limit:
        raise PlopError(f"the model has {limit} positions; give --max-length {limit} or less")


def _dtype(model: nn.Module) -> torch.dtype:
    return next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())


def _quantization(model: nn.Module) -> str | None:
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    return name_of(config if isinstance(config, dict) else config.to_dict()) if config else None
