"""What methods say of a matrix, read independently from their definitions and in NumPy's float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def spectrum_of_its_program(W: np.ndarray) -> float:
    """Spectrum's `calculate_snr`, with its threshold and estimate of σ, read from its published code."""
    S = np.linalg.svd(W, compute_uv=False)
    largest, (rows, columns) = S[0], W.shape
    q75, q25 = np.percentile(S, 75), np.percentile(S, 25)
    sigma = (q75 - q25) / 1.3490
    beta = rows / columns if rows <= columns else columns / rows
    threshold = sigma * np.sqrt((1 + np.sqrt(beta)) ** 2)
    signal, noise = S[threshold < S].sum(), S[threshold >= S].sum()
    return float(signal / noise / largest)


READINGS: dict[str, Callable[[np.ndarray], float]] = {
    "kappa": lambda W: np.linalg.cond(W),
    "snr": spectrum_of_its_program,
    "stable-rank": lambda W: np.linalg.norm(W, "fro") ** 2 / np.linalg.norm(W, 2) ** 2,
    "effective-rank": lambda W: math.exp(
        -sum(p * math.log(p) for p in np.linalg.svd(W, compute_uv=False) / np.linalg.norm(W, "nuc"))
    ),
}
