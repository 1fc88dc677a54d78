"""What singular values say: a number for each matrix, or why there is none. NumPy only.

    of_spectrum("kappa", S, Matrix(576, 1536))         # 187.2

S holds σ₁ ≥ … ≥ σₘ of a matrix that is not zero, in float64. `Unsaid` is raised where a method has nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Spectrum = NDArray[np.float64]

ALIKE = 1e-4
"""Eigenvalues this near to each other, in relation to them, are the same but for the rounding of weights."""
TINY = 1e-8
"""What PEFT adds to σₘ, so that a matrix without full rank has a condition number."""
LEAST_EIGENVALUE = 1e-5
"""WeightWatcher's threshold (EVALS_THRESH): smaller eigenvalues are no part of the tail."""
LEAST_EIGENVALUES = 20
"""Fewer are too few for a fit: WeightWatcher corrects for that (SMALL_N_CUTOFF), in a way of its own."""


_BEYOND = "its singular values are too large or too small for float64"


class Matrix(NamedTuple):
    """What singular values are of: the sides, and how far apart the numbers in it are, in relation to them."""

    rows: int
    columns: int
    eps: float = float(np.finfo(np.float64).eps)


class Unsaid(Exception):
    """Why a method has nothing to say of a matrix."""


def of_spectrum(method: str, S: Spectrum, W: Matrix) -> float:
    """What a method says of a matrix with these singular values. Raises Unsaid."""
    with np.errstate(over="ignore"):
        value = _MEASURES[method](S, W)
    if not math.isfinite(value):
        raise Unsaid(_BEYOND)
    return value


def kappa(S: Spectrum, W: Matrix) -> float:
    """σ₁ / (σₘ + 1e-8), as PEFT's `find_kappa_target_modules` (KappaTune) has it.

    Where σ₁ is smaller than that, it would be no more than σ₁ in another unit.
    """
    if S[0] < TINY:
        raise Unsaid(f"its singular values are all below the {TINY:g} that PEFT adds to the least")
    return float(S[0] / (S[-1] + TINY))


def spectrum_snr(S: Spectrum, W: Matrix) -> float:
    """Spectrum's signal-to-noise ratio (Hartford et al., arXiv 2406.06623): Σ signal / Σ noise / σ₁.

    Signal is what lies above ε, noise the rest; ε = (1 + √β) s, the edge of a random matrix's spectrum (Marchenko and
    Pastur), with β the smaller of in/out and out/in, and s the interquartile range of σ over 1.349. Where all noise is
    below the edge of what rounding the weights makes, it is none.
    """
    low, high = np.quantile(S, [0.25, 0.75])
    beta = min(W.rows, W.columns) / max(W.rows, W.columns)
    signal = (1 + math.sqrt(beta)) * (high - low) / 1.349 < S
    noise = S[~signal]
    if noise.max(initial=0.0) <= W.eps * np.linalg.norm(S) * (W.rows**-0.5 + W.columns**-0.5):
        raise Unsaid("all of its singular values are signal, none is noise")
    return float(S[signal].sum() / noise.sum() / S[0])


def stable_rank(S: Spectrum, W: Matrix) -> float:
    """‖W‖_F² / σ₁²: over how many directions the weight is spread."""
    return float(np.square(S / S[0]).sum())


def effective_rank(S: Spectrum, W: Matrix) -> float:
    """The exponential of the entropy of σ / Σσ (Roy and Vetterli, EUSIPCO 2007, Definition 1)."""
    share = S / S.sum()
    share = share[share > 0]
    return math.exp(-(share * np.log(share)).sum())


def alpha(S: Spectrum, W: Matrix) -> float:
    """The exponent of the power law that the largest eigenvalues σ² follow, as WeightWatcher fits it.

    The tail begins where the fit is best, by the distance of Kolmogorov and Smirnov (Clauset, Shalizi and Newman 2009);
    on each tail the fit is by maximum likelihood.
    """
    logs, slopes = _tails(S)
    least = _least_distances(logs, slopes)
    found = (math.inf, 0)
    for start in np.argsort(least):  # the first that cannot be better is followed by such alone
        if least[start] > found[0]:
            break
        found = min(found, (_distance(logs[start:], slopes[start]), int(start)))
    return float(slopes[found[1]])


def hill(S: Spectrum, W: Matrix) -> float:
    """The same of the larger half of the eigenvalues (Hill's estimator), as TempBalance and AlphaLoRA take it."""
    logs, slopes = _tails(S)
    slope = float(slopes[len(logs) // 2])
    if math.isinf(slope):
        raise Unsaid("the larger half of its singular values are all the same, and have no tail")
    return slope


def _tails(S: Spectrum) -> tuple[Spectrum, Spectrum]:
    """Logarithms of the eigenvalues, in ascending order, and the exponent of each tail: one begins at all but the last.

    1 + n / Σ ln(λ / λ_min) over a tail's n eigenvalues; infinite where they are all the same but for rounding.
    """
    eigenvalues = np.square(S[::-1])
    eigenvalues = eigenvalues[eigenvalues > LEAST_EIGENVALUE]
    if len(eigenvalues) < LEAST_EIGENVALUES:
        raise Unsaid(
            f"{len(eigenvalues)} of its eigenvalues are over {LEAST_EIGENVALUE:g}, and a fit needs {LEAST_EIGENVALUES}"
        )
    if not np.isfinite(eigenvalues).all():
        raise Unsaid(_BEYOND)
    logs = np.log(eigenvalues)
    if logs[-1] - logs[0] < ALIKE:
        raise Unsaid("its singular values are all the same, and have no tail")
    sizes = np.arange(len(logs), 1, -1)
    sums = np.cumsum(logs[::-1])[::-1][:-1] - sizes * logs[:-1]
    alike = logs[-1] - logs[:-1] < ALIKE
    return logs, np.where(alike, math.inf, 1 + sizes / np.where(alike, 1, sums))


def _distance(logs: Spectrum, slope: float) -> float:
    """The largest gap between the fitted and the observed distribution of a tail; 1 where there is no fit."""
    if not math.isfinite(slope):
        return 1.0
    fitted = -np.expm1((1 - slope) * (logs - logs[0]))
    return float(np.abs(fitted - np.arange(len(logs)) / len(logs)).max())


def _least_distances(logs: Spectrum, slopes: Spectrum) -> Spectrum:
    """For each tail, what its distance is at least: the largest gap at some of its eigenvalues, a sixteenth of them."""
    starts, some = np.arange(len(slopes))[:, None], np.arange(0, len(logs), 16)
    there, finite = some >= starts, np.isfinite(slopes)
    above = np.where(there, logs[some] - logs[starts], 0.0)
    fitted = -np.expm1((1 - np.where(finite, slopes, 1.0))[:, None] * above)
    gaps = np.where(there, np.abs(fitted - (some - starts) / (len(logs) - starts)), 0.0)
    return np.where(finite, gaps.max(axis=1) - 1e-12, 1.0)  # less what rounding can be


_MEASURES: dict[str, Callable[[Spectrum, Matrix], float]] = {
    "kappa": kappa,
    "snr": spectrum_snr,
    "stable-rank": stable_rank,
    "effective-rank": effective_rank,
    "alpha": alpha,
    "hill": hill,
}
