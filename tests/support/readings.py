"""What methods say of a matrix, read independently from their definitions; W and its singular values S are NumPy's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def spectrum_of_its_program(W: np.ndarray, S: np.ndarray) -> float:
    """Spectrum's `calculate_snr`, with its threshold and estimate of σ, read from its published code."""
    largest, (rows, columns) = S[0], W.shape
    q75, q25 = np.percentile(S, 75), np.percentile(S, 25)
    sigma = (q75 - q25) / 1.3490
    beta = rows / columns if rows <= columns else columns / rows
    threshold = sigma * np.sqrt((1 + np.sqrt(beta)) ** 2)
    signal, noise = S[threshold < S].sum(), S[threshold >= S].sum()
    return float(signal / noise / largest)


READINGS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "kappa": lambda W, S: S[0] / S[-1],
    "snr": spectrum_of_its_program,
    "stable-rank": lambda W, S: (np.linalg.norm(W, "fro") / S[0]) ** 2,
    "effective-rank": lambda W, S: math.exp(-sum(p * math.log(p) for p in S / S.sum())),
}


def reading(method: str, W: np.ndarray) -> float:
    """What a method says of W."""
    return READINGS[method](W, np.linalg.svd(W, compute_uv=False))
