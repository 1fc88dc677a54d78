"""What the hooks add up: for every sample and module the sum of ‖W z‖/‖z‖ over tokens, of its square, and their number.

    meter = Meter(samples=100, modules=210, device=device)
    with watching({linear: meter.hook(column, bias) for ...}), meter.batch(rows, mask):
        model(input_ids)
    sums, squares, counts = meter.read()

Nothing comes to the host before `read`, and nothing but a (3, modules, batch) buffer outlives a module's forward. Of a
model that is split over devices, norms go to the first.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from plop_cli import nfn
from plop_cli.hooks import ForwardHook
from plop_cli.statistics import Array


class Meter:
    """Accumulators on the model's device, float64 (float32 on MPS, which has no wider type)."""

    def __init__(self, *, samples: int, modules: int, device: torch.device) -> None:
        self._sum_dtype = torch.float32 if device.type == "mps" else torch.float64
        self._totals = torch.zeros(3, modules, samples, dtype=self._sum_dtype, device=device)
        self._mask = torch.empty(0)
        self._buffer = torch.empty(0)
        self._input: weakref.ref[Tensor] | None = None
        self._input_norms = torch.empty(0)
        self.misfits: set[int] = set()
        """Columns of modules that were called with something else than one input per token."""

    @contextmanager
    def batch(self, rows: Tensor, mask: Tensor) -> Iterator[None]:
        """Around one forward: `rows` (batch,) are the samples, `mask` (batch, length) is True on real tokens."""
        self._mask = mask
        self._buffer = self._totals.new_zeros(*self._totals.shape[:2], len(rows))
        yield
        self._totals[:, :, rows] += self._buffer

    def hook(self, column: int, bias: Tensor | None) -> ForwardHook:
        """The forward hook of one module, whose output minus `bias` is W z."""

        def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            z_norms = self._norms_of(args[0] if args else next(iter(kwargs.values())))
            if z_norms.numel() != self._mask.numel():
                self.misfits.add(column)
                return
            ratio = nfn.amplification(output if bias is None else output - bias, z_norms).view_as(self._mask)
            # A zero input has no direction, so no NFN; NaN stays, to be found and named.
            counted = self._mask & (z_norms.view_as(self._mask) != 0)
            ratio = torch.where(counted, ratio, 0).to(self._sum_dtype)
            self._buffer[0, column] += ratio.sum(dim=1)
            self._buffer[1, column] += ratio.square().sum(dim=1)
            self._buffer[2, column] += counted.sum(dim=1)

        return add

    def read(self) -> Array:
        """Sums, sums of squares and token counts, (3, samples, modules) float64: the one transfer of a pass."""
        totals: Array = self._totals.cpu().double().transpose(1, 2).contiguous().numpy()
        return totals

    def _norms_of(self, z: Tensor) -> Tensor:
        """‖z‖ of every token, computed once where q, k, v (or gate, up) are given the same tensor."""
        if self._input is None or self._input() is not z:
            self._input, self._input_norms = weakref.ref(z), nfn.norms(z).to(self._mask.device)
        return self._input_norms
