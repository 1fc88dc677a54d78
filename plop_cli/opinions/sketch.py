"""How far the first directions of a module's inputs explain their variance, from a sketch that costs little.

    sketch = Sketch.of(576)
    for z in batches:                       # (tokens, features)
        sketch = sketch.after(z)
    explained([sketch.state()], rank=16)    # 0.51

S = Σ (z − μ)(z − μ)ᵀ, features × features, is too dear to add up: for some models more than the forward itself. Of S
alone S Q is added up, with fewer columns than features, and what S does in their space is told from it (Nyström;
Tropp, Yurtsever, Udell and Cevher 2017, Algorithm 3). Q begins at random, takes two steps of the power iteration on the
first tokens, and one more whenever four times as many were seen: it is then taken anew from S Q, and what S was until
then is kept as rows B with S ≈ BᵀB. So the share comes out a little low: what B leaves out is in the variance alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

WIDTH = 48
"""Columns of Q: three for each of the 16 directions that are asked for."""

BLOCK = 512
"""Tokens that are looked at together, however many come at once: what a sketch says does not depend on batches."""

RENEWED = 4
"""Times the tokens after which Q is taken anew."""

_NOISE = 1e-6
"""Of the largest eigenvalue: what products in float32 are off by. Directions of less variance are not told from it."""

_ALIKE = 1e-10
"""Of the mean's square: inputs of less variance are the same but for rounding, on their way through float32."""

_LEAST = 1e-30
"""Of a feature: less variance is too small for squares in float32."""


class State(NamedTuple):
    """What a sketch knows: S ≈ rowsᵀ rows, its trace, and of how many tokens with which mean. float64, on the CPU."""

    tokens: int
    mean: Tensor
    trace: float
    rows: Tensor


@dataclass(frozen=True)
class Sketch:
    """Of the inputs so far, on their device, moved by `origin`, the mean of the first ones, so that float32 will do.

    `total` (features,) is their sum, `squares` that of their squared norms, `SQ` the sum of z zᵀQ, (features, width).
    `waiting` are those that make no block yet, and are in nothing else.
    """

    Q: Tensor
    SQ: Tensor
    origin: Tensor
    total: Tensor
    squares: Tensor
    waiting: tuple[Tensor, ...] = ()
    tokens: int = 0
    fresh: int = 0
    """How many tokens there were when Q was taken."""

    @classmethod
    def of(cls, features: int, device: torch.device | str = "cpu") -> Sketch:
        """Of no inputs yet."""
        Q = _random(features, min(features, WIDTH)).to(device)
        nothing = Q.new_zeros(features)
        return cls(Q, torch.zeros_like(Q), nothing, nothing, Q.new_zeros(()))

    def after(self, z: Tensor) -> Sketch:
        """The sketch of these inputs (tokens, features) too; this one stays what it is. `z` is kept, and not copied."""
        waiting = (*self.waiting, z)
        if sum(map(len, waiting)) < BLOCK:
            return replace(self, waiting=waiting)
        ends = tuple(range(BLOCK, sum(map(len, waiting)) + 1, BLOCK))
        *blocks, rest = torch.tensor_split(torch.cat(waiting), ends)
        sketch = self
        for block in blocks:
            sketch = sketch._plus(block)
        return replace(sketch, waiting=(rest.clone(),))

    def state(self) -> State:
        """What is known by now; of no tokens nothing."""
        known = self._plus(torch.cat(self.waiting)) if any(map(len, self.waiting)) else self
        mean, number = known.total.cpu().double() / max(1, known.tokens), known.tokens
        trace = float(known.squares) - number * float(mean.square().sum())
        return State(number, known.origin.cpu().double() + mean, trace, known._rows().cpu().double())

    def _plus(self, block: Tensor) -> Sketch:
        z = block.float()
        if not self.tokens:
            self = replace(self, origin=z.mean(dim=0), fresh=len(z))
        z = z - self.origin
        for _ in range(0 if self.tokens else 2):
            self = replace(self, Q=_turned(z.mT @ (z @ self.Q)))
        added = replace(
            self,
            SQ=torch.addmm(self.SQ, z.mT, z @ self.Q),
            total=self.total + z.sum(dim=0),
            squares=self.squares + torch.linalg.vector_norm(z).square(),
            tokens=self.tokens + len(z),
        )
        return added if added.tokens < RENEWED * self.fresh else added._renewed()

    def _renewed(self) -> Sketch:
        """With Q from S Q."""
        rows, Q = self._rows(), _turned(self.SQ)
        SQ = rows.mT @ (rows @ Q) + torch.outer(self.total, self.total @ Q) / self.tokens
        return replace(self, Q=Q, SQ=SQ, fresh=self.tokens)

    def _rows(self) -> Tensor:
        """B, (at most width, features): S ≈ BᵀB = S Q (Qᵀ S Q)⁻¹ Qᵀ S."""
        SQ = self.SQ - torch.outer(self.total, self.total @ self.Q) / max(1, self.tokens)
        core = (self.Q.mT @ SQ).cpu().double()
        if not core.isfinite().all():
            return SQ.mT * math.nan
        variances, directions = torch.linalg.eigh((core + core.mT) / 2)
        known = variances > _NOISE * variances[-1]
        rows: Tensor = (SQ @ (directions[:, known] / variances[known].sqrt()).to(SQ)).mT
        return rows


def explained(states: Sequence[State], rank: int) -> float:
    """The share of the variance that the first `rank` directions explain, of all inputs that the states are of.

    NaN where there is no variance but for rounding, or squares of the inputs are not finite, or too small, in float32.
    """
    tokens = sum(state.tokens for state in states)
    mean = torch.stack([state.tokens * state.mean for state in states]).sum(dim=0) / tokens
    apart = [math.sqrt(state.tokens) * (state.mean - mean)[None] for state in states]
    rows = torch.cat([*(state.rows for state in states), *apart])
    trace = sum(state.trace for state in states) + float(sum(row.square().sum() for row in apart))
    least = tokens * max(_LEAST * len(mean), _ALIKE * float(mean.square().sum()))
    if not least < trace < math.inf or not rows.isfinite().all():
        return math.nan
    variances = torch.linalg.eigvalsh(rows @ rows.mT).flip(0).clamp(min=0)
    return min(1.0, float(variances[:rank].sum()) / trace)


def _turned(SQ: Tensor) -> Tensor:
    """Orthonormal columns that span those of S Q, and where that has fewer directions, any others."""
    Q: Tensor = torch.linalg.qr(SQ.cpu() if SQ.device.type == "mps" else SQ).Q
    return Q.to(SQ)


@cache
def _random(features: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    Q: Tensor = torch.linalg.qr(torch.randn(features, width, generator=generator)).Q
    return Q
