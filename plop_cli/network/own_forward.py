"""Linear modules with a forward of their own: quantized weights, rounded inputs, whatever a class or a hook does.

Their weight does not tell what they compute, so they are asked at the size of the inputs that they really get: rounding
in fixed steps, or clipping, makes of a small vector something else than of a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plop_cli.method import nfn
from plop_cli.network.modules import LinearModule

Map = Callable[[Tensor], Tensor]
"""W as the module computes it, without its bias: (..., in) → (..., out)."""

NOT_LINEAR = "it is no linear map: what it makes of a sum is not the sum of what it makes of each"

_BENT = 0.25
"""How far W(2u + v) may be from 2 W u + W v, in its own units, before a module is no linear map. Rounding inputs to 4
bits moves it by 0.2; a norm of the input inside of the module by 0.5."""


def is_plain(linear: nn.Module) -> bool:
    """Whether it multiplies by its weight, adds its bias and does nothing else, whatever class it is of."""
    forward = getattr(linear, "_old_forward", linear.forward)  # below accelerate's hook
    own = getattr(forward, "__func__", None) not in (nn.Linear.forward, Conv1D.forward)
    return not own and not linear._forward_hooks  # those may change what comes out


def without_bias(linear: Any, forward: Any, u: Tensor) -> tuple[Tensor | None, Map]:
    """The bias, (out,), and W as the module computes it. A zero input comes out as the bias, wherever that is kept.

    Args: `forward`, as `fetched` yields it; `u`, (some, in), a tensor of the kind that it takes.
    """
    bias = forward(torch.zeros_like(u[:1]))[0] if getattr(linear, "bias", None) is not None else None
    return bias, forward if bias is None else lambda inputs: forward(inputs) - bias


def input_sizes(modules: Sequence[LinearModule], run: Callable[[], object]) -> dict[nn.Module, float]:
    """The power of two nearest to the mean ‖z‖ that each module with a forward of its own is given in `run`.

    Powers of two, since scaling by one rounds nothing. Where there is no such module, nothing is run.
    """
    sizes: dict[nn.Module, float] = {}

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        z = args[0] if args else next(iter(kwargs.values()))
        mean = float(nfn.norms(z).mean())
        if math.isfinite(mean) and mean > 0:
            sizes[module] = _power_of_two(mean)

    with ExitStack() as stack:
        own = [module.module for module in modules if module.expert is None and not is_plain(module.module)]
        for module in own:
            stack.callback(module.register_forward_pre_hook(look, with_kwargs=True).remove)
        if own:
            run()
    return sizes


def sized(W: Map, size: float) -> Map:
    """W of vectors that are made larger on their way in, and smaller on their way out."""
    return lambda inputs: W(inputs * size) / size


def columns(W: Map, like: Tensor, size: float) -> Iterator[Tensor]:
    """W's columns as rows: what unit vectors come out as, at most 1,024 at once. `size` is the norm of inputs."""
    width = like.shape[1]
    units = torch.eye(width, dtype=like.dtype, device=like.device).tensor_split(-(-width // 1024))
    return map(sized(W, _power_of_two(size / math.sqrt(width))), units)


def is_linear(W: Map, u: Tensor, Wu: Tensor) -> bool:
    """Whether `Wu`, W of the probes `u`, add up as those of a linear map do. NaN is for others to say."""
    one, other = (half.float() for half in Wu.chunk(2))
    first, second = u.chunk(2)
    together = W(2 * first + second).float()
    return not nfn.norms(2 * one + other - together).sum() > _BENT * nfn.norms(together).sum()


def error_of_probes(r: Tensor, q: float) -> float | None:
    """The relative standard error of the mean of r (probes,), where r² cannot have the mean q; None where it can.

    Unit vectors are no typical inputs: a module that rounds or clips may make something else of them.
    """
    r = r.cpu().double()
    error, error_of_squares = (float(values.std()) / len(r) ** 0.5 for values in (r, r.square()))
    agrees = abs(float(r.square().mean()) - q) <= 5 * error_of_squares + 1e-3 * q
    return None if agrees else error / float(r.mean())


def _power_of_two(number: float) -> float:
    return 2.0 ** round(math.log2(number))
