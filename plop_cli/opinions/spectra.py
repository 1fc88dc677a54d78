"""Singular values of a weight matrix, through the smaller Gram matrix where that is exact enough.

The eigenvalues of W Wᵀ in float64 are off by about 1e-16 σ₁², so a singular value σ by 1e-16 (σ₁/σ)² of itself: less
than 1e-5 for the smallest one of a matrix whose condition number is under 1e5. An SVD in float32 is off by 6e-8 σ₁/σ
there, and takes two to five times as long.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STEEPEST = 1e5
"""Condition number from which on an SVD is taken instead."""

_WIDTH = 16_384
"""Columns of W that are in float64 at once."""


def singular_values(W: Tensor) -> Tensor:
    """σ₁ ≥ … ≥ σₘ of a matrix (out, in) of finite values, m the smaller of the two: float64, on the CPU."""
    W = W.detach()
    W = W.cpu() if W.device.type == "mps" else W  # which has no float64
    W = W if W.shape[0] <= W.shape[1] else W.mT
    squares = (_eigenvalues(W) if W.device.type == "cpu" else torch.linalg.eigvalsh(_gram(W)).cpu()).flip(0)
    exact = bool(squares[-1] * STEEPEST**2 > squares[0])
    values: Tensor = squares.sqrt() if exact else torch.linalg.svdvals(W.double())
    return values.cpu()


def _eigenvalues(W: Tensor) -> Tensor:
    """Those of W Wᵀ, in ascending order, by NumPy: its product of a matrix and its transpose takes half as long."""
    pieces = (piece.double().numpy() for piece in torch.split(W, _WIDTH, dim=1))
    return torch.from_numpy(np.linalg.eigvalsh(sum(piece @ piece.T for piece in pieces)))


def _gram(W: Tensor) -> Tensor:
    """W Wᵀ, (rows, rows) in float64."""
    gram = W.new_zeros(len(W), len(W), dtype=torch.float64)
    for piece in torch.split(W, _WIDTH, dim=1):
        wide = piece.double()
        gram.addmm_(wide, wide.mT)
    return gram
