"""Definition 1 of the paper read word for word, sharing no code with plop_cli: slow, plain, what the engine must match.

One unpadded text at a time, in float32. Each named module's input z is caught on its way in; W z is computed once more
from the weight itself; the baseline is the mean over thousands of random unit vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

NFN = tuple[float, float]
"""Step 1 of one module with plain norms, and with squared ones."""


@torch.no_grad()
def brute_force(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    names: Sequence[str],
    seed: int = 20250620,
    weight: Callable[[nn.Module], Tensor] | None = None,
) -> list[NFN]:
    """NFN(W, D) of each of the named modules, in their order; `weight` gives W, out × in, where it cannot be read."""
    model.eval()
    weights = [(weight or _weight)(model.get_submodule(name)) for name in names]
    ratios: list[list[float]] = [[] for _ in names]

    def measure(position: int, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        z = args[0].reshape(-1, args[0].shape[-1])
        ratios[position] += (_norm(F.linear(z, weights[position])) / _norm(z)).tolist()

    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(measure, position))
        for position, name in enumerate(names)
    ]
    for text in texts:
        model(torch.tensor([tokenizer(text)["input_ids"]]))
    for handle in handles:
        handle.remove()

    generator = torch.Generator().manual_seed(seed)
    found = []
    for W, ratio in zip(weights, ratios, strict=True):
        u = torch.randn(_probes(W), W.shape[1], generator=generator)
        baseline = _norm(F.linear(u / _norm(u)[:, None], W))
        found.append((fmean(ratio) / baseline.mean().item(), fmean(r * r for r in ratio) / (baseline**2).mean().item()))
    return found


def mean(modules: Sequence[NFN]) -> NFN:
    """Step 2: NFN of a type from those of its modules."""
    plain, squared = zip(*modules, strict=True)
    return fmean(plain), fmean(squared)


def _probes(W: Tensor) -> int:
    """At least 2,048, and more where they are cheap: the narrow modules' baselines vary most."""
    return min(max(2048, 2**30 // W.numel()), 2**16)


def _weight(module: nn.Module) -> Tensor:
    """W, out × in."""
    return module.weight.T if isinstance(module, Conv1D) else module.weight


def _norm(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=-1).sqrt()
