"""score(): one hooked forward pass over the texts → the NFN of every linear module and module type.

scores = score(model, tokenizer, texts)
scores.types          # lowest NFN first
scores.recommended    # the types that PLoP adapts
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from plop_cli.bar import notebook_bar
from plop_cli.errors import PlopError
from plop_cli.method.choice import PLOP, Rule, looks, sure
from plop_cli.method.estimates import Array
from plop_cli.models.quantization import quantization_of
from plop_cli.network.adapters import merged, refuse_prompts
from plop_cli.network.body import uncompiled
from plop_cli.network.forward import Forward, check_length, forward
from plop_cli.network.hooks import evaluating
from plop_cli.network.modules import LinearModule, linear_modules
from plop_cli.network.offload import counted_reads, execution_device, is_offloaded
from plop_cli.network.own_forward import input_sizes
from plop_cli.network.parts import in_parts
from plop_cli.opinions.activations import Unasked, Watcher
from plop_cli.placement.refused import left_out, refused, trainable
from plop_cli.processes import ALONE, Group
from plop_cli.scoring.batches import Batch, batches, default_budget
from plop_cli.scoring.fitting import Fitting
from plop_cli.scoring.measurement import measured, summarize
from plop_cli.scoring.meter import Meter, columns_of_parts
from plop_cli.scoring.probes import Operators
from plop_cli.scoring.scores import Course, NFNScores
from plop_cli.scoring.settings import settings
from plop_cli.scoring.tokens import On, Tokens, tokenized
from plop_cli.texts.text import Text
from plop_registry import Skipped

Progress = Callable[[int, int], None]
"""Called after each batch with the real tokens done so far and in all."""


@notebook_bar()
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
    on: On = "all",
    skip_bad: bool = False,
    until: float | None = None,
    rule: Rule = PLOP,
    opinions: bool = False,
    progress: Progress | None = None,
    group: Group = ALONE,
) -> NFNScores:
    """NFN of every linear module of `model` on `texts` (paper, Definition 1 and Steps 1 to 3).

    Args:
        model: a transformers model, on any device and in any dtype; left as it was found. With PEFT adapters it is
            scored as what it computes, the active ones merged in copies of their layers.
        texts: strings, or conversations (lists of role/content messages), which go through the chat template.
        max_length: tokens per text; longer texts are cut, and `warnings` says how many.
        batch_tokens: tokens per forward, padding included (default 512 on the CPU, 16,384 elsewhere). Scores do not
            depend on it.
        seed: of the 64 probes and of the bootstrap.
        chat: wrap each text as a user turn with the tokenizer's chat template.
        on: "answers" scores what the assistant says, or the completion of a prompt, alone.
        skip_bad: pass over conversations that the chat template refuses, and texts without an answer with
            `on="answers"`; `warnings` says how many.
        include: towers of a multimodal model to score too, such as "vision", where texts run through them.
        until, rule: stop early: look after 8, 16, 32, … texts, and score no more once the set that `rule` chooses is
            the same in this share of resamples. The scores are those of the texts so far; `warnings` says so.
        opinions: look at what EVA and ShortGPT look at too, in the same pass; it is then in `opinions` of the scores.
        group: processes that share the texts (`processes.join`); each is given all, and gets all scores.

    Raises PlopError where nothing can be scored: no texts, no tokens, no linear module, a text too long for the model.
    """
    refuse_prompts(model)
    with merged(uncompiled(model)) as plain:
        return _scored(
            plain,
            tokenizer,
            texts,
            max_length=max_length,
            batch_tokens=batch_tokens,
            seed=seed,
            chat=chat,
            include=include,
            on=on,
            skip_bad=skip_bad,
            until=until,
            rule=rule,
            opinions=opinions,
            progress=progress,
            group=group,
        )


def _scored(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    max_length: int,
    batch_tokens: int | None,
    seed: int,
    chat: bool,
    include: Sequence[str],
    on: On,
    skip_bad: bool,
    until: float | None,
    rule: Rule,
    opinions: bool,
    progress: Progress | None,
    group: Group,
) -> NFNScores:
    """`score` of a model without adapters."""
    started = time.perf_counter()
    modules, skipped = linear_modules(model, include)
    _check(model, modules, skipped, max_length, on)
    untrainable = refused(type(model).__name__, sorted({module.type for module in modules}))
    rule = trainable(rule, type(model).__name__, untrainable)
    device, dtype = execution_device(modules[0].module), _dtype(model)
    modules, untold = in_parts(model, modules, device)
    meter = Meter(samples=len(texts), columns=columns_of_parts(modules)[-1].stop, device=device)
    ends = looks(len(texts), until) if until else [(len(texts), 0.0)]
    budget = batch_tokens or default_budget(device, width=_width(modules) if is_offloaded(model) else 0)
    watcher = Watcher(model, modules) if opinions else Unasked()
    texts_pass = _Pass(forward(model, include), meter, watcher, device, budget, tokenizer.pad_token_id, group, progress)
    how: dict[str, Any] = {"max_length": max_length, "chat": chat, "on": on, "skip_bad": skip_bad}
    with tokenized(tokenizer, texts, ends[0][0], **how) as tokens_of, evaluating(model), counted_reads(model) as read:
        first = next(filter(None, tokens_of(ends[0][0]).ids))
        with group.together():  # the denominator of NFN: what comes out of a random input
            sizes = input_sizes(modules, lambda: texts_pass.run_alone(first))
            probed = Operators(modules, dtype, seed=seed, sizes=sizes)
        with probed.at_first_forwards(), meter.watching(modules, probed.biases), watcher.watching():
            for end, enough in ends:
                texts_pass.deal(tokens_of(end), [end for end, _ in ends])
                totals, misfits = texts_pass.up_to(end)
                measure = measured(modules, probed.of(totals[2]), totals, misfits, texts[:end])
                kept = [modules[column] for column in measure.fit.kept]
                decided = sure([m.type for m in kept], measure.matrix, rule, seed=seed) if until else 0.0
                if decided >= enough:
                    break
        tokens = tokens_of(len(texts))  # whatever they hold: what is bad is refused wherever it stands

    if not kept:
        raise PlopError(f"no module has a score: {'; '.join(map(str, measure.fit.left_out[:3]))}")
    types, module_scores, confidence = summarize(kept, measure.matrix, exclude=untrainable, seed=seed)
    fitted = texts_pass.fitting.budget
    course = Course(len(texts), end, sum(tokens.cut[:end]), max_length, budget, fitted, until, decided, read())
    warnings = (*course.warnings(), *tokens.warnings(end), *measure.fit.warnings, *untold)
    return NFNScores(
        types=types,
        modules=module_scores,
        skipped=(*skipped, *measure.fit.left_out),
        warnings=(*warnings, *map(left_out, untrainable)),
        parts=measure.parts,
        opinions=watcher.opinions(group),
        matrix=measure.matrix,
        confidence=confidence,
        tokens=tokens.number(end),
        duration=time.perf_counter() - started,
        model=_described(model, dtype, device),
        settings=settings(
            samples=end,
            max_length=max_length,
            seed=seed,
            dtype=str(dtype).removeprefix("torch."),
            chat=chat,
            quantization=quantization_of(model),
            include=include,
            on=on,
            skipped=any(index < end for index in tokens.refused),
        ),
    )


def _width(modules: Sequence[LinearModule]) -> int:
    """How many numbers a layer takes and gives for a token, at most: of experts, what one takes and gives."""
    layers = Counter[int | None]()
    for module in modules:
        if not module.expert:
            layers[module.layer] += module.in_features + module.out_features
    return max(layers.values())


def _check(
    model: nn.Module, modules: Sequence[LinearModule], skipped: Sequence[Skipped], max_length: int, on: On
) -> None:
    if not modules:
        others = "; ".join(f"{reason} (like {name})" for reason, name in {s.reason: s.name for s in skipped}.items())
        raise PlopError(f"{type(model).__name__} has no linear module to score: {others or 'it has no weights'}")
    check_length(model, max_length)
    if on == "answers" and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise PlopError("an encoder-decoder writes each text from its first token on; leave out --on answers")


class _Pass:
    """The texts on their way through the model in their order, of several processes each with its share."""

    def __init__(
        self,
        run: Forward,
        meter: Meter,
        watcher: Watcher | Unasked,
        device: torch.device,
        budget: int,
        pad: int | None,
        group: Group,
        progress: Progress | None,
    ) -> None:
        self._run, self._meter, self._watcher, self._device = run, meter, watcher, device
        self._budget, self._pad = budget, pad or 0
        self._group, self._progress = group, progress
        self._ids: list[list[int]] = []
        self._answers: list[list[bool]] | None = None
        self._start = self._done = 0
        self.fitting = Fitting(self._step)

    def deal(self, tokens: Tokens, ends: Sequence[int]) -> None:
        """Take this process's share of the texts up to each of the `ends` that they reach."""
        self._answers = tokens.answers
        for end in ends:
            if end <= len(tokens.ids):
                self._ids += self._group.shard(tokens.ids[len(self._ids) : end])

    def run_alone(self, ids: list[int]) -> None:
        """One text, for what hooks of others see of it."""
        input_ids = torch.tensor([ids], device=self._device)
        self._run(input_ids, torch.ones_like(input_ids, dtype=torch.bool))

    def up_to(self, end: int) -> tuple[Array, set[int]]:
        """Run the next texts, before `end`: the meter's totals and misfits, over all processes and texts so far."""
        with self._group.together():
            ids, marks = self._ids[self._start : end], self._answers and self._answers[self._start : end]
            for batch in batches(ids, batch_tokens=self._budget, pad=self._pad, counted=marks):
                self.fitting(batch)
                self._done += int(batch.mask.sum())
                if self._progress:
                    self._progress(self._done, sum(map(len, self._ids)))
        self._start = end
        misfits = set[int]().union(*self._group.gather(self._meter.misfits))
        return self._group.add(self._meter.read()), misfits

    def _step(self, batch: Batch) -> None:
        here = batch.to(self._device)
        rows = here.rows + self._start
        with self._meter.batch(rows, here.counted), self._watcher.batch(rows, here.counted):
            self._run(here.input_ids, here.mask)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())


def _described(model: nn.Module, dtype: torch.dtype, device: torch.device) -> dict[str, str]:
    """The model as the scores name it."""
    config = getattr(model, "config", None)
    return {
        "id": str(getattr(config, "_name_or_path", "")),
        "revision": str(getattr(config, "_commit_hash", None) or ""),
        "architecture": type(model).__name__,
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
    }
