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
from typing import Any

import numpy as np
import torch
from torch import nn

from plop_cli.errors import PlopError
from plop_cli.network.randomness import same_randomness
from plop_cli.placement.placement import Placement
from plop_cli.racing.examples import Data, Example
from plop_cli.racing.identity import Setting, adapters_of
from plop_cli.racing.losses import Room, out_of_memory, token_losses
from plop_registry import Lap

Step = Callable[[int, float], None]
"""Told of each step: its number, from 1, and its loss."""

GROUPED = 8
"""Examples that are measured at once."""


class Trainer:
    """A model in memory and the examples of a race. `note` is told what a user would not guess."""

    def __init__(
        self, model: Any, data: Data, setting: Setting, *, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.model, self.data, self.setting, self.note = model, data, setting, note
        self.room = Room(setting.batch)
        if len(data.train) < setting.batch:
            raise PlopError(f"{len(data.train)} training examples are fewer than a batch ({setting.batch}); give more")
        if any(weight.dtype == torch.float16 for weight in model.parameters()):
            raise PlopError("training in float16 loses small gradients; give --dtype bfloat16 or float32")

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
            losses = train(tuned, chosen, rate, room=self.room, note=self.note, step=step)
            lost = not math.isfinite(losses[-1])
            validation = [] if lost or not validate else self.measure(tuned, self.data.validation)
            test = [] if lost or steps < self.setting.steps else self.measure(tuned, self.data.test)
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
            train(tuned, few, 1e-6, room=self.room, note=self.note, step=lambda *_: marks.append(time.perf_counter()))
            measured = self.data.test[:GROUPED]
            started = time.perf_counter()
            self.measure(tuned, measured)
        step = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else 0.0
        return step, (time.perf_counter() - started) / len(measured)

    def measure(self, model: nn.Module, examples: Sequence[Example]) -> list[float]:
        """The mean loss of each example."""
        order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
        found, size = [math.nan] * len(examples), GROUPED
        while order:
            group = order[:size]
            try:
                with torch.no_grad():
                    losses = token_losses(model, [examples[index] for index in group])
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error) or size == 1:
                    raise
                size //= 2
                continue
            for index, loss in zip(group, losses, strict=True):
                found[index] = float(loss.mean())
            order = order[size:]
        return found


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
    model: Any,
    chosen: Sequence[Sequence[Example]],
    rate: float,
    *,
    room: Room | None = None,
    note: Callable[[str], None] = lambda text: None,
    step: Step = lambda number, loss: None,
) -> list[float]:
    """A step of AdamW for each batch, with 10 % warmup and a cosine to zero; gives the losses.

    They are NaN from the step on at which one is no number: there training ends. `model` is left in evaluation mode.
    """
    room = room or Room(max(map(len, chosen)))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, len(chosen)))
    losses = [math.nan] * len(chosen)
    model.train()
    with _checkpointing(model, room):
        for index, batch in enumerate(chosen):
            loss = _backward(model, batch, room, note, optimizer)
            if not math.isfinite(loss):
                break
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses[index] = loss
            step(index + 1, loss)
    model.eval()
    return losses


def warm_cosine(step: int, steps: int) -> float:
    """The share of the learning rate at a step: 10 % warmup, then a cosine to zero.

    transformers' own schedule spends its first step at a rate of zero; of sixty steps that is one lost.
    """
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1 + math.cos(math.pi * step / steps)) / 2


def _backward(
    model: Any, batch: Sequence[Example], room: Room, note: Callable[[str], None], optimizer: torch.optim.Optimizer
) -> float:
    """Gradients of the mean loss of a batch, in as many parts as memory asks for; gives that loss."""
    tokens = sum(example.losses for example in batch)
    while True:
        random = torch.get_rng_state()
        total = 0.0
        try:
            for start in range(0, len(batch), room.examples):
                loss = torch.cat(token_losses(model, batch[start : start + room.examples])).sum() / tokens
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        else:
            return total
        optimizer.zero_grad()
        torch.set_rng_state(random)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        note(room.less(model))
        if room.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})


@contextmanager
def _checkpointing(model: Any, room: Room) -> Iterator[None]:
    """Checkpointing for as long as the block lasts, where there is too little room without it, now or later on."""
    if room.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        if room.checkpointing:
            model.gradient_checkpointing_disable()
