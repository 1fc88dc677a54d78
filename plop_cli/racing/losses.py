"""The loss of each token that counts, and what to do where memory is too little for a batch of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from plop_cli.errors import PlopError
from plop_cli.racing.examples import Example


@dataclass
class Room:
    """What of a batch goes through the model at once, and whether activations are computed twice to save memory."""

    examples: int
    checkpointing: bool = False

    def less(self, model: nn.Module) -> str:
        """Take less memory from now on, and say how; PlopError where there is no less."""
        if self.examples > 1:
            self.examples //= 2
            return f"out of memory: batches go through the model by {self.examples} examples, gradients are added up"
        if not self.checkpointing and getattr(model, "supports_gradient_checkpointing", False):
            self.checkpointing = True
            return "out of memory: activations are computed twice (gradient checkpointing)"
        raise PlopError("one example at a time does not fit into memory; give --max-length, --load-in 4bit or --device")


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
    with _precision(model, device):
        logits = model(input_ids=ids, attention_mask=real.to(device), use_cache=False).logits[:, :-1]
    losses = cross_entropy(logits[inside].float(), ids[:, 1:][inside], reduction="none")
    return torch.split(losses, [example.losses for example in batch])


@contextmanager
def _precision(model: Any, device: torch.device) -> Iterator[None]:
    """Of a model in half precision, the adapters stay in float32 and are multiplied in bfloat16."""
    half = any(weight.dtype == torch.bfloat16 for weight in model.parameters())
    if not half:
        yield
        return
    from peft.helpers import disable_input_dtype_casting

    kept = disable_input_dtype_casting(model) if hasattr(model, "peft_config") else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), kept:
        yield


def out_of_memory(error: BaseException) -> bool:
    """Whether it is memory that was lacking, of a GPU or the machine's own."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said
