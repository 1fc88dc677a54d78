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
    gram = _gram(W)
    squares = (_eigenvalues(gram) if gram.isfinite().all() else gram.new_zeros(len(gram))).flip(0)
    exact = bool(squares[-1] * STEEPEST**2 > squares[0])
    values: Tensor = squares.sqrt() if exact else torch.linalg.svdvals(W.double())
    return values.cpu()


def eps_of(W: Tensor) -> float:
    """How far apart the numbers in W are, in relation to them: they may have been kept in less than they are in now."""
    coarser = (each for each in (torch.bfloat16, torch.float16) if all(_fits(some, each) for some in (W[:1], W)))
    return torch.finfo(next(coarser, W.dtype)).eps


def _fits(W: Tensor, dtype: torch.dtype) -> bool:
    return torch.equal(W.to(dtype).to(W.dtype), W)


def _gram(W: Tensor) -> Tensor:
    """W Wᵀ, (rows, rows) in float64; on the CPU by NumPy, whose product with the transpose takes half as long."""
    pieces = (piece.double() for piece in torch.split(W, _WIDTH, dim=1))
    if W.device.type == "cpu":
        with np.errstate(over="ignore", invalid="ignore"):
            return torch.from_numpy(sum(piece @ piece.T for piece in (each.numpy() for each in pieces)))
    gram = W.new_zeros(len(W), len(W), dtype=torch.float64)
    for piece in pieces:
        gram.addmm_(piece, piece.mT)
    return gram


def _eigenvalues(gram: Tensor) -> Tensor:
    """In ascending order."""
    if gram.device.type == "cpu":
        return torch.from_numpy(np.linalg.eigvalsh(gram.numpy()))
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values
