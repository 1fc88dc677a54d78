"""Singular values of a weight matrix, through the smaller Gram matrix where that is exact enough.

The eigenvalues of W Wᵀ in float64 are off by about 1e-16 σ₁², so a singular value σ by 1e-16 (σ₁/σ)² of itself: less
than 1e-5 for the smallest one of a matrix whose condition number is under 1e5. An SVD in float32 is off by 6e-8 σ₁/σ
there, and takes two to five times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEEPEST = 1e5
"""Condition number from which on an SVD is taken instead."""

_BLOCKS = 4
"""Of rows of the Gram matrix: of four, two fifths of the products need not be computed."""

_WIDTH = 16_384
"""Columns of W that are in float64 at once."""


def singular_values(W: Tensor) -> Tensor:
    """σ₁ ≥ … ≥ σₘ of a matrix (out, in) of finite values, m the smaller of the two: float64, on the CPU."""
    W = W.detach()
    W = W.cpu() if W.device.type == "mps" else W  # which has no float64
    W = W if W.shape[0] <= W.shape[1] else W.mT
    squares: Tensor = torch.linalg.eigvalsh(_lower_gram(W)).flip(0)
    exact = bool(squares[-1] * STEEPEST**2 > squares[0])
    values: Tensor = squares.sqrt() if exact else torch.linalg.svdvals(W.double())
    return values.cpu()


def _lower_gram(W: Tensor) -> Tensor:
    """The lower triangle of W Wᵀ, (rows, rows) in float64, and of the upper one what falls into its blocks."""
    rows = len(W)
    gram = W.new_zeros(rows, rows, dtype=torch.float64)
    step = max(1, -(-rows // _BLOCKS))
    for piece in torch.split(W, _WIDTH, dim=1):
        wide = piece.double()
        for start in range(0, rows, step):
            gram[start:, start : start + step] += wide[start:] @ wide[start : start + step].mT
    return gram
