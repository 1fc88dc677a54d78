"""One lap: adapters put into a model, trained, measured, and taken out again, so that nothing of them remains.

    trainer = Trainer(model, data, Setting(steps=60))
    lap = trainer.lap(placement, rate=1e-3, seed=0)

The seed decides how the adapters start, which examples they see and in which order; it is all that does.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from plop_cli.errors import PlopError
from plop_cli.network.randomness import same_randomness
from plop_cli.placement.placement import Placement
from plop_cli.racing.examples import Data, Example
from plop_cli.racing.identity import Setting, adapters_of
from plop_cli.racing.losses import GROUPED, Room, gradients, measure
from plop_cli.words import counted
from plop_registry import Lap

Batch = TypeVar("Batch")
Step = Callable[[int, float], None]
"""Told of each step: its number, from 1, and its loss."""


class Trainer:
    """A model in memory and the examples of a race. `note` is told what a user would not guess."""

    def __init__(
        self, model: Any, data: Data, setting: Setting, *, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.model, self.data, self.setting, self.note = model, data, setting, note
        self.room = Room(setting.batch)
        if len(data.train) < setting.batch:
            few = counted(len(data.train), "training example")
            raise PlopError(f"{few}: fewer than a batch ({setting.batch}); give more, or a smaller --batch")
        generates = not isinstance(model, PreTrainedModel) or model.can_generate()
        if not generates or getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            name = type(model).__name__
            raise PlopError(f"{name} is no causal language model; a race trains to predict the next token")
        if any(weight.dtype == torch.float16 for weight in model.parameters()):
            raise PlopError("training in float16 loses small gradients; give --dtype bfloat16 or float32")
        if isinstance(model, PreTrainedModel):
            self._check_tokens(model.get_input_embeddings().weight.shape[0])

    def _check_tokens(self, known: int) -> None:
        data = self.data
        largest = max(max(example.ids) for part in (data.train, data.validation, data.test) for example in part)
        if largest >= known:
            raise PlopError(
                f"the tokenizer gives token {largest}, and the model's embedding has {known}; "
                "give the model the tokenizer that it was trained with"
            )

    def lap(
        self,
        placement: Placement,
        *,
        rate: float,
        seed: int,
        steps: int | None = None,
        validate: bool = False,
        step: Step = lambda number, loss: None,
    ) -> Lap:
        """Train the placement's adapters. Args: `steps`, fewer than the race's; only whole trainings are tested."""
        steps = steps or self.setting.steps
        started = time.perf_counter()
        chosen = batches(self.data.train, self.setting.batch, steps, seed)
        with same_randomness(), adapted(self.model, placement, seed, self.setting.dropout) as tuned:
            losses = self._train(tuned, chosen, rate, step)
            lost = not math.isfinite(losses[-1])
            validation = [] if lost or not validate else measure(tuned, self.data.validation)
            test = [] if lost or steps < self.setting.steps else measure(tuned, self.data.test)
        return Lap(
            adapters_of(placement),
            rate,
            seed,
            steps,
            round(time.perf_counter() - started, 3),
            *(np.array(each, dtype=np.float32) for each in (losses, validation, test)),
        )

    def pace(self, placement: Placement) -> tuple[float, float]:
        """Seconds that a step takes, and an example that is measured."""
        few = batches(self.data.train, self.setting.batch, 3, seed=0)
        marks: list[float] = []
        with same_randomness(), adapted(self.model, placement, 0) as tuned:
            self._train(tuned, few, 1e-6, lambda *_: marks.append(time.perf_counter()))
            started = time.perf_counter()
            measure(tuned, self.data.test[:GROUPED])
            measured = time.perf_counter() - started
        step = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else 0.0
        return step, measured / len(self.data.test[:GROUPED])

    def _train(self, tuned: Any, chosen: Sequence[Sequence[Example]], rate: float, step: Step) -> list[float]:
        tuned.train()
        with torch.enable_grad(), self.room.made(tuned):
            losses = train(tuned, chosen, lambda batch: gradients(tuned, batch, self.room, self.note), rate, step=step)
        tuned.eval()
        return losses


def batches(examples: Sequence[Example], size: int, steps: int, seed: int) -> list[list[Example]]:
    """Of examples of about the same length, in random order; epoch after epoch."""
    random, chosen = Random(seed), list[list[Example]]()
    while wanted := steps - len(chosen):
        drawn = random.sample(examples, min(wanted, len(examples) // size) * size)
        drawn.sort(key=lambda example: len(example.ids))
        epoch = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        random.shuffle(epoch)
        chosen += epoch
    return chosen


@contextmanager
def adapted(model: Any, placement: Placement, seed: int, dropout: float = 0.0) -> Iterator[Any]:
    """Put the placement's adapters into `model`; gives the PEFT model, and leaves `model` as it was."""
    before = {name: weight.requires_grad for name, weight in model.named_parameters()}
    training = {name: module.training for name, module in model.named_modules()}
    own = set(vars(model))
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about what PEFT asks it
        tuned = placement.apply(model, **({"lora_dropout": dropout} if dropout else {}))
    try:
        yield tuned.eval()
    finally:
        tuned.unload()
        for name in set(vars(model)) - own:
            delattr(model, name)
        for name, weight in model.named_parameters():
            weight.requires_grad_(before[name]).grad = None
        for name, module in model.named_modules():
            module.training = training[name]


def train(
    model: nn.Module,
    chosen: Sequence[Batch],
    gradients: Callable[[Batch], float],
    rate: float,
    *,
    step: Step = lambda number, loss: None,
) -> list[float]:
    """A step of AdamW for each batch, with 10 % warmup and a cosine to zero; gives the losses.

    They are NaN from the step on at which one is no number: there training ends.

    Args: `gradients` adds up those of the mean loss of a batch, which it returns.
    """
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, len(chosen)))
    losses = [math.nan] * len(chosen)
    for index, batch in enumerate(chosen):
        loss = gradients(batch)
        if not math.isfinite(loss):
            break
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses[index] = loss
        step(index + 1, loss)
    return losses


def warm_cosine(step: int, steps: int) -> float:
    """The share of the learning rate at a step: 10 % warmup, then a cosine to zero.

    transformers' own schedule spends its first step at a rate of zero; of sixty steps that is one lost.
    """
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1 + math.cos(math.pi * step / steps)) / 2
