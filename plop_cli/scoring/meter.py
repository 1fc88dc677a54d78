"""What the hooks add up: for every sample and module the sum of ‖W z‖/‖z‖ over tokens, of its square, and their number.

    meter = Meter(samples=100, columns=210, device=device)
    with watching({linear: meter.hook(column, bias) for ...}), meter.batch(rows, mask):
        model(input_ids)
    sums, squares, counts = meter.read()

Nothing comes to the host before `read`, and little outlives a module's forward: one number per token, of 64 modules at
most. Of a model that is split over devices, norms go to the first.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from plop_cli.method import nfn
from plop_cli.method.estimates import Array
from plop_cli.network.experts import ExpertsHook, Routed
from plop_cli.network.hooks import ForwardHook
from plop_cli.network.modules import Part

_AT_ONCE = 64
"""Modules whose tokens are summed up together."""


class Meter:
    """Accumulators on the model's device, float64 (float32 on MPS, which has no wider type)."""

    def __init__(self, *, samples: int, columns: int, device: torch.device) -> None:
        self._sum_dtype = torch.float32 if device.type == "mps" else torch.float64
        self._totals = torch.zeros(3, columns, samples, dtype=self._sum_dtype, device=device)
        self._columns = torch.arange(columns, device=device)
        self._mask = torch.empty(0)
        self._buffer = self._ratios = self._counts = self._scratch = torch.empty(0)
        self._waiting: list[int] = []
        self._input: weakref.ref[Tensor] | None = None
        self._version = 0
        self._input_norms = self._counted = torch.empty(0)
        self.misfits: set[int] = set()
        """Columns of modules that were called with something else than one input per token."""

    @contextmanager
    def batch(self, rows: Tensor, mask: Tensor) -> Iterator[None]:
        """Around one forward: `rows` (batch,) are the samples, `mask` (batch, length) is True on real tokens."""
        self._mask = mask
        self._buffer = self._totals.new_zeros(*self._totals.shape[:2], len(rows))
        # Written into, so that no small tensors lie between the large ones that come and go: malloc would keep those.
        self._ratios = torch.empty(_AT_ONCE, *mask.shape, device=mask.device)
        self._counts = torch.empty_like(self._ratios, dtype=torch.bool)
        self._waiting.clear()
        self._input = None
        yield
        self._sum_up()
        self._totals[:, :, rows] += self._buffer

    def hook(self, column: int, bias: Tensor | None, parts: Mapping[int, Part] | None = None) -> ForwardHook:
        """The forward hook of one module, whose output minus `bias` is W z; `parts` are given by their columns."""

        def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            z_norms, counted = self._norms_of(args[0] if args else next(iter(kwargs.values())))
            if z_norms.shape not in (self._mask.shape, (self._mask.numel(),)):
                self.misfits.add(column)
                return
            Wz = output if bias is None else self._minus(output, bias)
            self._add(column, nfn.amplification(Wz, z_norms), counted)
            for at, part in (parts or {}).items():
                self._add(at, nfn.amplification(part.of(Wz).flatten(-2), z_norms), counted)

        return add

    def _minus(self, output: Tensor, bias: Tensor) -> Tensor:
        """Into memory that is there already: new pages would cost more than the subtraction."""
        size = output.numel()
        if len(self._scratch) < size or (self._scratch.dtype, self._scratch.device) != (output.dtype, output.device):
            self._scratch = output.new_empty(size)
        return torch.sub(output, bias, out=self._scratch[:size].view_as(output))

    def _add(self, column: int, ratio: Tensor, counted: Tensor) -> None:
        self._ratios[len(self._waiting)] = ratio.view_as(self._mask)
        self._counts[len(self._waiting)] = counted
        self._waiting.append(column)
        if len(self._waiting) == _AT_ONCE:
            self._sum_up()

    def _sum_up(self) -> None:
        """Over the tokens of each sample, for many modules at once: one by one, starting the kernels costs most."""
        if not self._waiting:
            return
        number = len(self._waiting)
        counted = self._counts[:number]
        ratio = torch.where(counted, self._ratios[:number], 0).to(self._sum_dtype)
        values = torch.stack([ratio.sum(dim=2), ratio.square_().sum(dim=2), counted.sum(dim=2)])
        self._buffer.index_add_(1, torch.stack([self._columns[column] for column in self._waiting]), values)
        self._waiting.clear()

    def experts_hook(self, columns: Mapping[str, range], parts: Mapping[str, Mapping[int, Part]]) -> ExpertsHook:
        """The hook of one experts module: of each of its parameters the columns of all experts, and of parts of W z.

        Parts are given by the columns that they have of the first expert; those of the others follow, expert by expert.
        """

        def add(parameter: str, Wz: Tensor, z_norms: Tensor, routed: Routed) -> None:
            if routed.rows != self._mask.numel():
                self.misfits.update(columns[parameter])
                return
            experts, tokens, z_norms = (each.to(self._mask.device) for each in (routed.experts, routed.tokens, z_norms))
            counted = self._mask.flatten()[tokens] & (z_norms != 0)
            samples = tokens // self._mask.shape[1]
            add_to(columns[parameter].start + experts, samples, nfn.amplification(Wz, z_norms), counted)
            for at, part in parts[parameter].items():
                ratio = nfn.amplification(part.of(Wz).flatten(-2), z_norms)
                add_to(at + experts * len(parts[parameter]), samples, ratio, counted)

        def add_to(columns: Tensor, samples: Tensor, ratio: Tensor, counted: Tensor) -> None:
            ratio = torch.where(counted, ratio, 0).to(self._sum_dtype)
            values = torch.stack([ratio, ratio.square(), counted.to(ratio)])
            self._buffer.view(3, -1).index_add_(1, columns * len(self._mask) + samples, values)

        return add

    def read(self) -> Array:
        """Sums, sums of squares and token counts, (3, samples, modules) float64: the one transfer of a pass."""
        totals: Array = self._totals.cpu().double().transpose(1, 2).contiguous().numpy()
        return totals

    def _norms_of(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """‖z‖ of every token, and which count; once where q, k, v (or gate, up) are given the same tensor."""
        # Its version tells whether it was changed in place since.
        if self._input is None or self._input() is not z or self._version != z._version:
            self._input, self._version, self._input_norms = (
                weakref.ref(z),
                z._version,
                nfn.norms(z).to(self._mask.device),
            )
            if self._input_norms.numel() == self._mask.numel():
                # A zero input has no direction, so no NFN; NaN stays, to be found and named.
                self._counted = self._mask & (self._input_norms.view_as(self._mask) != 0)
        return self._input_norms, self._counted
