"""What each module is besides W z: its bias, what a random input comes out with, and whether it has a score at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plop_cli.method import nfn
from plop_cli.method.estimates import Array
from plop_cli.network import experts
from plop_cli.network.modules import LinearModule, Part
from plop_cli.network.offload import at_next_forward, fetched
from plop_cli.progress import says
from plop_cli.scoring import own_forward


@dataclass(frozen=True)
class Operator:
    """A module's bias, (out,) or None (an expert's hook is given W z itself); its baseline, and those of its parts.

    `rank` is W's where it is under 64 and under half of what its shape allows, else None: not looked for in experts,
    nor below float32, where rounding hides it. `against` says why there is no score, where a forward of its own
    is no linear map. `error` is the baseline's standard error, relative to it, where no weight backs the probes.
    """

    bias: Tensor | None
    baseline: nfn.Baseline
    parts: tuple[nfn.Baseline, ...] = ()
    rank: int | None = None
    against: str | None = None
    error: float | None = None


_UNSEEN = Operator(None, nfn.Baseline(0.0, 0.0))
"""Of a module that no token went through: it has no score."""


class Operators:
    """One for each module, from probes in `dtype` (the weight's own where it can be read).

        probed = Operators(modules, dtype, seed=seed, sizes=own_forward.input_sizes(...))
        with probed.at_first_forwards():
            model(input_ids)
        probed.of(counts)

    Modules are probed at their first forward, while their weight is in memory anyway; those with a forward of their own
    before it. `biases` are there from then on.
    """

    def __init__(
        self, modules: Sequence[LinearModule], dtype: torch.dtype, *, seed: int, sizes: Mapping[nn.Module, float]
    ) -> None:
        self._modules, self._dtype = modules, dtype
        self._probes = cache(partial(nfn.unit_probes, seed=seed))
        self._found: list[Operator | None] = [None] * len(modules)
        self.biases: list[Tensor | None] = [None] * len(modules)
        self._columns = defaultdict[nn.Module, list[int]](list)
        """Of each module that is probed at its first forward: its column, or the first one of each of its experts."""
        for column, module in enumerate(modules):
            if module.expert is None and not own_forward.is_plain(module.module):
                u, size = self._probes(module.in_features), sizes.get(module.module, 1.0)
                self._keep(column, [_own(module, dtype, u, size)])
            elif not module.expert:
                self._columns[module.module].append(column)

    @contextmanager
    def at_first_forwards(self) -> Iterator[None]:
        """Inside, each module is probed at its first forward."""
        says(f"probing {len(self._modules)} modules")
        with ExitStack() as stack:
            for module in self._columns:
                stack.callback(at_next_forward(module, partial(self._probe, module)))
            yield

    def of(self, counts: Array) -> list[Operator]:
        """All operators, in the modules' order, after `counts` tokens (samples, modules or more) were seen.

        A module that saw some elsewhere, in another process, is probed now; one that saw none need not be.
        """
        for column, linear in enumerate(self._modules):
            if self._found[column] is None and counts[:, column].any():
                with fetched(linear.module) as forward:
                    self._probe(linear.module, forward)
        return [operator or _UNSEEN for operator in self._found]

    def _probe(self, module: nn.Module, forward: Any) -> None:
        for column in self._columns[module]:
            linear = self._modules[column]
            u = self._probes(linear.in_features)
            of_experts = linear.expert is not None
            self._keep(column, _experts(linear, u) if of_experts else [_plain(linear, self._dtype, u, forward)])

    def _keep(self, column: int, operators: Iterable[Operator]) -> None:
        for at, operator in enumerate(operators, start=column):
            self._found[at], self.biases[at] = operator, operator.bias


def _plain(module: LinearModule, dtype: torch.dtype, u: Tensor, forward: Any) -> Operator:
    """Of a module that does nothing but multiply by its weight, though that may not show (torchao, bitsandbytes)."""
    linear = module.module
    weight = linear.weight
    assert isinstance(weight, Tensor)
    readable = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
    u = u.to(weight.device, weight.dtype if readable else dtype)
    bias, W = _without_bias(linear, forward, u)
    outputs = W(u)
    shown = [weight if isinstance(linear, Conv1D) else weight.mT] if readable else own_forward.columns(W, u, 1.0)
    return _operator(module, bias, u, outputs, _q(module, shown))


def _own(module: LinearModule, dtype: torch.dtype, u: Tensor, size: float) -> Operator:
    """Of a module with a forward of its own; without a score where that takes no vectors or is no linear map."""
    linear, nothing = module.module, nfn.Baseline(0.0, 0.0)
    try:
        with fetched(linear) as forward:
            u = u.to(cast(Tensor, linear.weight).device, dtype)
            bias, W = _without_bias(linear, linear if linear._forward_hooks else forward, u)
            large = own_forward.sized(W, size)
            outputs = large(u)
            against = None if own_forward.is_linear(large, u, outputs) else own_forward.NOT_LINEAR
            q = _q(module, own_forward.columns(W, u, size))
    except Exception as failure:  # noqa: BLE001  # foreign code, on what it may not have been written for
        why = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
        return Operator(None, nothing, (nothing,) * len(module.parts), against=f"it cannot be probed ({why})")
    error = own_forward.error_of_probes(nfn.amplification(outputs, nfn.norms(u)), q[0])
    if error:
        q = [float(nfn.amplification(Wu, nfn.norms(u)).square().mean()) for Wu in _by_rows(module, outputs)]
    return replace(_operator(module, bias, u, outputs, q), against=against, error=error)


def _without_bias(linear: nn.Module, forward: Any, u: Tensor) -> tuple[Tensor | None, own_forward.Map]:
    """The bias, (out,), and W as the module computes it. A zero input comes out as the bias, wherever that is kept."""
    bias = forward(torch.zeros_like(u[:1]))[0] if getattr(linear, "bias", None) is not None else None
    return bias, forward if bias is None else lambda inputs: forward(inputs) - bias


def _operator(module: LinearModule, bias: Tensor | None, u: Tensor, outputs: Tensor, q: Sequence[float]) -> Operator:
    """From `outputs`, W of the probes `u`, and ‖W‖_F²/in of all rows and of each part's."""
    whole, *parts = (nfn.baseline(Wu, u, share) for Wu, share in zip(_by_rows(module, outputs), q, strict=True))
    telling = outputs[: min(module.in_features, module.out_features) // 2]
    hidden = outputs.dtype != torch.float32 or nfn.surely_spread(telling)
    rank = None if hidden else nfn.span(telling)
    return Operator(bias, whole, tuple(parts), rank if rank != len(telling) else None)


def _q(module: LinearModule, columns: Iterable[Tensor]) -> list[float]:
    """‖W‖_F²/in of all rows and of each part's, from W's columns, given as rows."""
    rows = _whole_and_parts(module)
    squares = sum(torch.stack([_squares(part.of(some)) for part in rows]) for some in columns)
    shares: list[float] = (cast(Tensor, squares).cpu().double() / module.in_features).tolist()
    return shares


def _by_rows(module: LinearModule, outputs: Tensor) -> list[Tensor]:
    """Outputs (probes, out) of all rows and of each part's."""
    return [part.of(outputs).flatten(-2) for part in _whole_and_parts(module)]


def _whole_and_parts(module: LinearModule) -> tuple[Part, ...]:
    return (Part("", 1, 0, module.out_features), *module.parts)


def _squares(W: Tensor) -> Tensor:
    """‖W‖_F²."""
    return cast(Tensor, torch.linalg.vector_norm(W, dtype=torch.float32).square())


def _experts(first: LinearModule, u: Tensor) -> Iterator[Operator]:
    """All experts of one parameter; the weights are viewed, not copied, and one transfer brings all their norms."""
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
