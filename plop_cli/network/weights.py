"""What identifies weights in memory: a hash of their names, dtypes, shapes and values."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


class WeightsHash:
    """What identifies weights in memory. A weight without gradient is hashed once for as long as it has none."""

    def __init__(self) -> None:
        self._frozen: dict[str, bytes] = {}

    def revision(self, model: nn.Module) -> str:
        """sha256 over names, dtypes, shapes and values of all parameters and buffers."""
        known = self._frozen
        self._frozen = {
            name: known.get(name) or _digest(weight)
            for name, weight in model.named_parameters()
            if not weight.requires_grad
        }
        whole = hashlib.sha256()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
            whole.update(self._frozen.get(name) or _digest(tensor))
        return whole.hexdigest()


def _digest(tensor: Tensor) -> bytes:
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(content.numpy().data).digest()
