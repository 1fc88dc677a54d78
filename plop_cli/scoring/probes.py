"""What each module is besides W z: its bias, what a random input comes out with, and whether it has a score at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plop_cli.method import nfn
from plop_cli.network import experts
from plop_cli.network.modules import LinearModule, Part
from plop_cli.network.offload import fetched


@dataclass(frozen=True)
class Operator:
    """A module's bias, (out,) or None (an expert's hook is given W z itself); its baseline, and those of its parts.

    `rank` is W's where it is under 64 and under half of what its shape allows, else None: not looked for in experts,
    nor below float32, where rounding hides it.
    """

    bias: Tensor | None
    baseline: nfn.Baseline
    parts: tuple[nfn.Baseline, ...] = ()
    rank: int | None = None


def operators(modules: Sequence[LinearModule], dtype: torch.dtype, *, seed: int) -> list[Operator]:
    """One for each module, in their order, from probes in `dtype` (the weight's own where it can be read)."""
    found: list[Operator] = []
    probes = cache(partial(nfn.unit_probes, seed=seed))
    for module in modules:
        if module.expert is None:
            found.append(_dense(module, dtype, probes(module.in_features)))
        elif module.expert == 0:
            found += _experts(module, probes(module.in_features))
    return found


def _dense(module: LinearModule, dtype: torch.dtype, u: Tensor) -> Operator:
    linear = module.module
    with fetched(linear) as forward:
        weight = linear.weight
        assert isinstance(weight, Tensor)
        readable = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
        u = u.to(weight.device, weight.dtype if readable else dtype)
        # A zero input comes out as the bias, whatever the class keeps it in.
        bias = forward(torch.zeros_like(u[:1]))[0] if getattr(linear, "bias", None) is not None else None

        def W(inputs: Tensor) -> Tensor:
            return cast(Tensor, forward(inputs) if bias is None else forward(inputs) - bias)

        outputs, rows = W(u), _whole_and_parts(module)
        columns = [weight if isinstance(linear, Conv1D) else weight.mT] if readable else map(W, _unit_vectors(u))
        squares = sum(torch.stack([_squares(part.of(some)) for part in rows]) for some in columns)
    q = (cast(Tensor, squares).cpu().double() / module.in_features).tolist()
    whole, *parts = (nfn.baseline(part.of(outputs).flatten(-2), u, share) for part, share in zip(rows, q, strict=True))
    telling = outputs[: min(module.in_features, module.out_features) // 2]
    hidden = outputs.dtype != torch.float32 or nfn.surely_spread(telling)
    rank = None if hidden else nfn.span(telling)
    return Operator(bias, whole, tuple(parts), rank if rank != len(telling) else None)


def _unit_vectors(like: Tensor) -> Sequence[Tensor]:
    """All of them, at most 1,024 at once: they come out as W's columns, where W cannot be read."""
    size = like.shape[1]
    return torch.eye(size, dtype=like.dtype, device=like.device).tensor_split(-(-size // 1024))


def _whole_and_parts(module: LinearModule) -> tuple[Part, ...]:
    return (Part("", 1, 0, module.out_features), *module.parts)


def _squares(W: Tensor) -> Tensor:
    """‖W‖_F²."""
    return cast(Tensor, torch.linalg.vector_norm(W, dtype=torch.float32).square())


def _experts(first: LinearModule, u: Tensor) -> Iterator[Operator]:
    """All experts of one parameter; the weights are viewed, not copied, and one transfer brings all their norms."""
    with fetched(first.module):
        weights = experts.matrices(first.module, first.parameter)
        u = u.to(weights.device, weights.dtype)
        u_norms, rows = nfn.norms(u), _whole_and_parts(first)
        r, squares = [], []
        for W in weights:
            Wu = u @ W.T
            r.append(torch.stack([nfn.amplification(part.of(Wu).flatten(-2), u_norms) for part in rows]))
            squares.append(torch.stack([_squares(part.of(W.T)) for part in rows]))
    q = torch.stack(squares).cpu().double() / first.in_features
    for r_of_rows, q_of_rows in zip(torch.stack(r).cpu(), q.tolist(), strict=True):
        whole, *parts = map(nfn.expectation, r_of_rows, q_of_rows)
        yield Operator(None, whole, tuple(parts))
