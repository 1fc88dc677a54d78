"""The naive algorithm, word for word, as what score() is to be compared with: a fresh Gaussian for every token.

Per batch and module, in float32: W z is multiplied out once more, W z̃ too, with z̃ Gaussian and rescaled to ‖z̃‖ = ‖z‖.
Batches are padded, eight texts each in input order, and go through the whole model with its output head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NaiveHook:
    """Adds up NFN(W, z) of the real tokens of every batch."""

    def __init__(self) -> None:
        self.total = 0.0
        self.tokens = 0
        self.mask = torch.empty(0)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        z = args[0].float()
        random = torch.randn_like(z)
        random *= z.norm(dim=-1, keepdim=True) / random.norm(dim=-1, keepdim=True)
        weight = module.weight.float()
        nfn = F.linear(z, weight).norm(dim=-1) / F.linear(random, weight).norm(dim=-1)
        self.total += nfn[self.mask].sum().item()
        self.tokens += int(self.mask.sum())


@torch.no_grad()
def naive(model: Any, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """NFN of every nn.Linear but the output head, by name."""
    hooks = {
        name: NaiveHook()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    handles = [model.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    for batch in batches:
        for hook in hooks.values():
            hook.mask = batch["attention_mask"].bool()
        model(**batch)
    for handle in handles:
        handle.remove()
    return {name: hook.total / hook.tokens for name, hook in hooks.items()}
