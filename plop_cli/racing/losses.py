"""The loss of each token that counts, and what to do where memory is too little for a batch of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from plop_cli.errors import PlopError
from plop_cli.racing.examples import Example

GROUPED = 8
"""Examples that are measured at once."""

_TOO_LARGE = "one example at a time does not fit into memory; give --max-length, --load-in 4bit or --device"


@dataclass
class Room:
    """What of a batch goes through the model at once, and whether activations are computed twice to save memory."""

    examples: int
    checkpointing: bool = False

    def less(self, model: Any) -> str:
        """Take less memory from now on, and say how; PlopError where there is no less."""
        if self.examples > 1:
            self.examples //= 2
            return f"out of memory: batches go through the model by {self.examples} examples, gradients are added up"
        if not self.checkpointing and getattr(model, "supports_gradient_checkpointing", False):
            self.checkpointing = True
            model.gradient_checkpointing_enable({"use_reentrant": False})
            return "out of memory: activations are computed twice (gradient checkpointing)"
        raise PlopError(_TOO_LARGE)

    @contextmanager
    def made(self, model: Any) -> Iterator[None]:
        """Checkpointing for as long as the block lasts, where there is too little room without it, now or later on."""
        if self.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        try:
            yield
        finally:
            if self.checkpointing:
                model.gradient_checkpointing_disable()


def gradients(model: Any, batch: Sequence[Example], room: Room, note: Callable[[str], None]) -> float:
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
        model.zero_grad()
        torch.set_rng_state(random)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        note(room.less(model))


def measure(model: nn.Module, examples: Sequence[Example]) -> list[float]:
    """The mean loss of each example."""
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
    found, size = [math.nan] * len(examples), GROUPED
    while order:
        group = order[:size]
        try:
            with torch.no_grad():
                losses = token_losses(model, [examples[index] for index in group])
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise PlopError(_TOO_LARGE) from error
            size //= 2
            continue
        for index, loss in zip(group, losses, strict=True):
            found[index] = float(loss.mean())
        order = order[size:]
    return found


def token_losses(model: Any, batch: Sequence[Example]) -> tuple[Tensor, ...]:
    """Of each example, the loss of each token that counts, in nats: float32 (tokens,)."""
    device = next(model.parameters()).device
    longest = max(len(example.ids) for example in batch)
    ids, real, counts = torch.zeros(3, len(batch), longest, dtype=torch.long)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        real[row, : len(example.ids)] = 1
        counts[row, : len(example.ids)] = torch.tensor(example.counts)
    ids, inside = ids.to(device), counts[:, 1:].bool().to(device)
    wanted, asked = ids[:, 1:], {}
    if _cuts_logits(model):  # a vocabulary of 262,144 costs more than the body: only where an answer has tokens
        columns = asked["logits_to_keep"] = inside.any(dim=0).nonzero()[:, 0]
        inside, wanted = inside[:, columns], wanted[:, columns]
    with _precision(model, device):
        logits = model(input_ids=ids, attention_mask=real.to(device), use_cache=False, **asked).logits
    logits = logits if asked else logits[:, :-1]
    losses = cross_entropy(logits[inside].float(), wanted[inside], reduction="none")
    return torch.split(losses, [example.losses for example in batch])


def _cuts_logits(model: Any) -> bool:
    """Whether the model gives logits of chosen tokens alone (`logits_to_keep`, as indices)."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    taken = signature(inner.forward).parameters.get("logits_to_keep")
    return taken is not None and "Tensor" in str(taken.annotation)


@contextmanager
def _precision(model: Any, device: torch.device) -> Iterator[None]:
    """Of a model in half precision, the adapters stay in float32 and are multiplied in bfloat16."""
    half = any(weight.dtype == torch.bfloat16 for weight in model.parameters())
    if not half:
        yield
        return
    from peft.helpers import disable_input_dtype_casting

    with torch.autocast(device.type, torch.bfloat16), disable_input_dtype_casting(model):
        yield


def out_of_memory(error: BaseException) -> bool:
    """Whether it is memory that was lacking, of a GPU or the machine's own."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said
