"""What the hooks add up: for every sample and module the sum of ‖W z‖/‖z‖ over tokens, of its square, and their number.

    meter = Meter(samples=100, columns=210, device=device)
    with meter.watching(modules, biases), meter.batch(rows, mask):
        model(input_ids)
    sums, squares, counts = meter.read()

Nothing comes to the host before `read`, and little outlives a module's forward: one number per token, of 64 modules at
most. Of a model that is split over devices, norms go to the first.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from plop_cli.method import nfn
from plop_cli.method.estimates import Array
from plop_cli.network.experts import ExpertsHook, Routed, observing
from plop_cli.network.hooks import ForwardHook, watching
from plop_cli.network.modules import LinearModule, Part

_AT_ONCE = 64
"""Modules whose tokens are summed up together."""


class Meter:
    """Accumulators on the model's device, float64 (float32 on MPS, which has no wider type)."""

    def __init__(self, *, samples: int, columns: int, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._totals = torch.zeros(3, columns, samples, dtype=dtype, device=device)
        self._columns = torch.arange(columns, device=device)
        self._scratch = torch.empty(0)
        self._batch = _BatchSums(self._totals, self._columns, torch.empty(0, 0, device=device))
        self.misfits: set[int] = set()
        """Columns of modules that were called with something else than one input per token."""

    @contextmanager
    def batch(self, rows: Tensor, mask: Tensor) -> Iterator[None]:
        """Around one forward: `rows` (batch,) are the samples, `mask` (batch, length) is True on tokens that count."""
        self._batch = _BatchSums(self._totals, self._columns, mask)
        yield
        self._totals[:, :, rows] += self._batch.read()

    @contextmanager
    def watching(self, modules: Sequence[LinearModule], biases: Sequence[Tensor | None]) -> Iterator[None]:
        """Hooks on all modules, experts included, in their order.

        `biases` are those of the modules, (out,) each, at the latest when their forward has ended.
        """
        dense: dict[nn.Module, ForwardHook] = {}
        columns, parts = (defaultdict[nn.Module, dict[str, Any]](dict) for _ in range(2))
        for column, (m, at) in enumerate(zip(modules, columns_of_parts(modules), strict=True)):
            of_parts = dict(zip(at, m.parts, strict=True))
            if m.expert is None:
                dense[m.module] = self._hook(column, biases, of_parts)
            elif m.expert == 0:
                columns[m.module][m.parameter] = range(column, column + len(getattr(m.module, m.parameter)))
                parts[m.module][m.parameter] = of_parts
        with watching(dense), observing({m: self._experts_hook(columns[m], parts[m]) for m in columns}):
            yield

    def read(self) -> Array:
        """Sums, sums of squares and token counts, (3, samples, modules) float64: the one transfer of a pass."""
        totals: Array = self._totals.cpu().double().transpose(1, 2).contiguous().numpy()
        return totals

    def _hook(self, column: int, biases: Sequence[Tensor | None], parts: Mapping[int, Part]) -> ForwardHook:
        """The forward hook of one module, whose output minus its bias is W z; `parts` are given by their columns."""

        def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            batch = self._batch
            z_norms, counted = batch.norms_of(args[0] if args else next(iter(kwargs.values())))
            rows = output.shape[:-1] if isinstance(output, Tensor) else None
            if z_norms.shape not in (batch.mask.shape, (batch.mask.numel(),)) or rows != z_norms.shape:
                self.misfits.add(column)
                return
            bias = biases[column]
            Wz = output if bias is None else self._minus(output, bias)
            batch.add(column, nfn.amplification(Wz, z_norms), counted)
            for at, part in parts.items():
                batch.add(at, nfn.amplification(part.of(Wz).flatten(-2), z_norms), counted)

        return add

    def _minus(self, output: Tensor, bias: Tensor) -> Tensor:
        """Into memory that is there already: new pages would cost more than the subtraction."""
        size = output.numel()
        if len(self._scratch) < size or (self._scratch.dtype, self._scratch.device) != (output.dtype, output.device):
            self._scratch = output.new_empty(size)
        return torch.sub(output, bias, out=self._scratch[:size].view_as(output))

    def _experts_hook(self, columns: Mapping[str, range], parts: Mapping[str, Mapping[int, Part]]) -> ExpertsHook:
        """The hook of one experts module: of each of its parameters the columns of all experts, and of parts of W z.

        Parts are given by the columns that they have of the first expert; those of the others follow, expert by expert.
        """

        def add(parameter: str, Wz: Tensor, z_norms: Tensor, routed: Routed) -> None:
            batch = self._batch
            if routed.rows != batch.mask.numel():
                self.misfits.update(columns[parameter])
                return
            experts, tokens, z_norms = (t.to(batch.mask.device) for t in (routed.experts, routed.tokens, z_norms))
            batch.add_tokens(columns[parameter].start + experts, tokens, nfn.amplification(Wz, z_norms), z_norms)
            for at, part in parts[parameter].items():
                ratio = nfn.amplification(part.of(Wz).flatten(-2), z_norms)
                batch.add_tokens(at + experts * len(parts[parameter]), tokens, ratio, z_norms)

        return add


class _BatchSums:
    """What one forward adds to the totals. `mask` (batch, length) is True on tokens that count."""

    def __init__(self, totals: Tensor, columns: Tensor, mask: Tensor) -> None:
        self.mask = mask
        self._columns = columns
        self._sums = totals.new_zeros(*totals.shape[:2], len(mask))
        # Written into, so that no small tensors lie between the large ones that come and go: malloc would keep those.
        self._ratios = torch.empty(_AT_ONCE, *mask.shape, device=mask.device)
        self._counts = torch.empty_like(self._ratios, dtype=torch.bool)
        self._waiting: list[int] = []
        self._input: weakref.ref[Tensor] | None = None
        self._version = 0
        self._input_norms = self._counted = torch.empty(0)

    def read(self) -> Tensor:
        """Sums, sums of squares and counts, (3, columns, batch)."""
        self._sum_up()
        return self._sums

    def norms_of(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """‖z‖ of every token, and which count; once where q, k, v (or gate, up) are given the same tensor."""
        # Its version tells whether it was changed in place since.
        if self._input is None or self._input() is not z or self._version != z._version:
            self._input, self._version = weakref.ref(z), z._version
            self._input_norms = nfn.norms(z).to(self.mask.device)
            if self._input_norms.numel() == self.mask.numel():
                # A zero input has no direction, so no NFN; NaN stays, to be found and named.
                self._counted = self.mask & (self._input_norms.view_as(self.mask) != 0)
        return self._input_norms, self._counted

    def add(self, column: int, ratio: Tensor, counted: Tensor) -> None:
        """One module's ratio of every token, and which of them count."""
        self._ratios[len(self._waiting)] = ratio.view_as(self.mask)
        self._counts[len(self._waiting)] = counted
        self._waiting.append(column)
        if len(self._waiting) == _AT_ONCE:
            self._sum_up()

    def add_tokens(self, columns: Tensor, tokens: Tensor, ratio: Tensor, z_norms: Tensor) -> None:
        """Ratios of single tokens, each for a column of its own, all (pairs,)."""
        counted = self.mask.flatten()[tokens] & (z_norms != 0)
        ratio = torch.where(counted, ratio, 0).to(self._sums.dtype)
        values = torch.stack([ratio, ratio.square(), counted.to(ratio)])
        samples = tokens // self.mask.shape[1]
        self._sums.view(3, -1).index_add_(1, columns * len(self.mask) + samples, values)

    def _sum_up(self) -> None:
        """Over the tokens of each sample, for many modules at once: one by one, starting the kernels costs most."""
        if not self._waiting:
            return
        number = len(self._waiting)
        counted = self._counts[:number]
        ratio = torch.where(counted, self._ratios[:number], 0).to(self._sums.dtype)
        values = torch.stack([ratio.sum(dim=2), ratio.square_().sum(dim=2), counted.sum(dim=2)])
        self._sums.index_add_(1, torch.stack([self._columns[column] for column in self._waiting]), values)
        self._waiting.clear()


def columns_of_parts(modules: Sequence[LinearModule]) -> list[range]:
    """The meter's columns for the parts of each module: they follow those of all modules."""
    ends = accumulate((len(module.parts) for module in modules), initial=len(modules))
    return [range(start, end) for start, end in pairwise(ends)]
