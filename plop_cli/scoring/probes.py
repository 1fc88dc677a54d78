"""What each module is besides W z: its bias, what a random input comes out with, and whether it has a score at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plop_cli.method import nfn
from plop_cli.method.estimates import Array
from plop_cli.network import experts, own_forward
from plop_cli.network.modules import LinearModule, Part
from plop_cli.network.offload import at_next_forward, fetched
from plop_cli.progress import says


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
    before it. `biases` are there from then on; what else the probes tell comes to the host when it is asked for.
    """

    def __init__(
        self, modules: Sequence[LinearModule], dtype: torch.dtype, *, seed: int, sizes: Mapping[nn.Module, float]
    ) -> None:
        self._modules, self._dtype = modules, dtype
        self._probes = cache(partial(_probes, seed))
        self._seen: list[_Seen] = []
        self._found: list[Operator | None] = [None] * len(modules)
        self.biases: list[Tensor | None] = [None] * len(modules)
        self._columns = defaultdict[nn.Module, list[int]](list)
        """Of each module that is probed at its first forward: its column, or the first one of each of its experts."""
        for column, module in enumerate(modules):
            if module.expert is None and not own_forward.is_plain(module.module):
                u, size = nfn.unit_probes(module.in_features, seed=seed), sizes.get(module.module, 1.0)
                self._found[column] = own = _own(module, dtype, u, size)
                self.biases[column] = own.bias
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
        self._finish()
        for column, linear in enumerate(self._modules):
            if self._found[column] is None and counts[:, column].any():
                with fetched(linear.module) as forward:
                    self._probe(linear.module, forward)
                self._finish()
        return [operator or _UNSEEN for operator in self._found]

    def _finish(self) -> None:
        for seen, operators in _operators(self._seen):
            self._found[seen.column : seen.column + len(operators)] = operators
        self._seen.clear()

    def _probe(self, module: nn.Module, forward: Any) -> None:
        for column in self._columns[module]:
            linear = self._modules[column]
            if linear.expert is not None:
                self._seen.append(_experts(column, linear, self._probes))
            else:
                self._seen.append(_plain(column, linear, self._probes, self._dtype, forward))
                self.biases[column] = self._seen[-1].bias


_Probes = Callable[[int, torch.device, torch.dtype], tuple[Tensor, Tensor]]


def _probes(seed: int, in_features: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Unit vectors where and in the dtype in which a module takes them, and their norms after rounding to it."""
    u = nfn.unit_probes(in_features, seed=seed).to(device, dtype)
    return u, nfn.norms(u)


@dataclass(frozen=True)
class _Seen:
    """What probes came out as, of the module at `column` or of all experts of one parameter, the first of them there.

    ‖W u‖ of unit vectors, (modules, rows, probes), and ‖W‖_F², (modules, rows), are those of all rows and of each
    part's. They stay where they were computed.
    """

    column: int
    in_features: int
    r: Tensor
    squares: Tensor
    bias: Tensor | None = None
    rank: int | None = None


def _operators(seen: Sequence[_Seen]) -> Iterator[tuple[_Seen, list[Operator]]]:
    """For each, the operators of its modules; the arithmetic of all is done at once."""
    if not seen:
        return
    r = torch.cat([each.r.flatten(0, 1).cpu() for each in seen])
    q = [square / each.in_features for each in seen for square in each.squares.flatten().tolist()]
    baselines = iter(nfn.expectations(r, q))
    for each in seen:
        modules, rows, _ = each.r.shape
        made = [list(islice(baselines, rows)) for _ in range(modules)]
        yield each, [Operator(each.bias, whole, tuple(parts), each.rank) for whole, *parts in made]


def _plain(column: int, module: LinearModule, probes: _Probes, dtype: torch.dtype, forward: Any) -> _Seen:
    """Of a module that does nothing but multiply by its weight, though that may not show (torchao, bitsandbytes)."""
    linear = module.module
    weight = linear.weight
    assert isinstance(weight, Tensor)
    readable = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
    u, u_norms = probes(module.in_features, weight.device, weight.dtype if readable else dtype)
    bias, W = own_forward.without_bias(linear, forward, u)
    outputs = W(u)
    shown = [weight if isinstance(linear, Conv1D) else weight.mT] if readable else own_forward.columns(W, u, 1.0)
    r = torch.stack([nfn.amplification(Wu, u_norms) for Wu in _by_rows(module, outputs)])
    return _Seen(column, module.in_features, r[None], _squares(module, shown)[None], bias, _rank(module, outputs))


def _own(module: LinearModule, dtype: torch.dtype, u: Tensor, size: float) -> Operator:
    """Of a module with a forward of its own; without a score where that takes no vectors or is no linear map."""
    linear, nothing = module.module, nfn.Baseline(0.0, 0.0)
    try:
        with fetched(linear) as forward:
            u = u.to(cast(Tensor, linear.weight).device, dtype)
            bias, W = own_forward.without_bias(linear, linear if linear._forward_hooks else forward, u)
            large = own_forward.sized(W, size)
            outputs = large(u)
            against = None if own_forward.is_linear(large, u, outputs) else own_forward.NOT_LINEAR
            squares = _squares(module, own_forward.columns(W, u, size))
            q = [square / module.in_features for square in squares.tolist()]
    except Exception as failure:  # noqa: BLE001  # foreign code, on what it may not have been written for
        why = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
        return Operator(None, nothing, (nothing,) * len(module.parts), against=f"it cannot be probed ({why})")
    r = torch.stack([nfn.amplification(Wu, nfn.norms(u)) for Wu in _by_rows(module, outputs)])
    error = own_forward.error_of_probes(r[0], q[0])
    if error:
        q = [float(of_rows.square().mean()) for of_rows in r]
    whole, *parts = nfn.expectations(r, q)
    return Operator(bias, whole, tuple(parts), _rank(module, outputs), against, error)


def _rank(module: LinearModule, outputs: Tensor) -> int | None:
    """W's rank as `Operator` has it, from the outputs of unit vectors, (probes, out)."""
    telling = outputs[: min(module.in_features, module.out_features) // 2]
    if outputs.dtype != torch.float32 or not len(telling):
        return None
    rank = nfn.span(telling)
    return rank if rank < len(telling) else None


def _squares(module: LinearModule, columns: Iterable[Tensor]) -> Tensor:
    """‖W‖_F² of all rows and of each part's, (rows,), from W's columns, given as rows."""
    rows = _whole_and_parts(module)
    return cast(Tensor, sum(torch.stack([_square(part.of(some)) for part in rows]) for some in columns))


def _by_rows(module: LinearModule, outputs: Tensor) -> list[Tensor]:
    """Outputs (probes, out) of all rows and of each part's."""
    return [part.of(outputs).flatten(-2) for part in _whole_and_parts(module)]


def _whole_and_parts(module: LinearModule) -> tuple[Part, ...]:
    return (Part("", 1, 0, module.out_features), *module.parts)


def _square(W: Tensor) -> Tensor:
    """‖W‖_F²."""
    return nfn.norms(W, dim=None).square()


def _experts(column: int, first: LinearModule, probes: _Probes) -> _Seen:
    """All experts of one parameter; the weights are viewed, not copied."""
    weights = experts.matrices(first.module, first.parameter)
    u, u_norms = probes(first.in_features, weights.device, weights.dtype)
    r, squares = [], []
    for W in weights:
        r.append(torch.stack([nfn.amplification(Wu, u_norms) for Wu in _by_rows(first, u @ W.T)]))
        squares.append(_squares(first, [W.T]))
    return _Seen(column, first.in_features, torch.stack(r), torch.stack(squares))
