"""What the per-sample matrix says: means, standard errors, the recommended types and how sure they are.

Everything here is a function of one matrix (`SampleMatrix`): S[sample, module], the sum of NFN over the sample's
tokens, and n[sample, module], how many tokens that were. Samples are the independent draws, so they are what standard
errors, the bootstrap and comparisons resample. NumPy only: `plop compare` must start without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 1000


def module_means(sums: Array, counts: Array) -> Array:
    """NFN(W, D) of each module: the mean over all tokens of all samples (paper, Section 3, Step 1).

    Args: `sums` and `counts`, both (samples, modules). Returns (modules,); NaN where a module saw no token.
    """
    with np.errstate(invalid="ignore"):
        means: Array = sums.sum(axis=0) / counts.sum(axis=0)
    return means


def influence(sums: Array, counts: Array) -> Array:
    """What each sample adds to the error of each module's mean, to first order (a ratio estimator, linearised).

    φ[i, m] = (S[i, m] − NFN_m · n[i, m]) / Σ_i n[i, m], so each column sums to 0. Standard errors and comparisons are
    functions of it: average columns to get a type, subtract two runs' columns to pair them. Shape (samples, modules);
    a column is NaN where all its tokens come from one sample, which cannot tell how samples differ.
    """
    with np.errstate(invalid="ignore"):
        phi: Array = (sums - module_means(sums, counts) * counts) / counts.sum(axis=0)
    return np.where(np.count_nonzero(counts, axis=0) < 2, math.nan, phi)


def standard_error(phi: Array) -> Array:
    """Standard error of each column of `influence`; NaN for fewer than two samples, where it cannot be known."""
    samples = len(phi)
    if samples < 2:
        return np.full(phi.shape[1:], math.nan)
    error: Array = np.sqrt((phi**2).sum(axis=0) * samples / (samples - 1))
    return error


def by_type(columns: Array, types: Sequence[str]) -> dict[str, Array]:
    """The mean over the modules of each type (Step 2), along the last axis, in order of first appearance.

    NaN counts as absent: an expert may have no token in a resample. A type has NaN where all its modules do.
    """
    index: dict[str, list[int]] = {}
    for position, name in enumerate(types):
        index.setdefault(name, []).append(position)
    return {name: _mean_of_finite(columns[..., positions]) for name, positions in index.items()}


def _mean_of_finite(columns: Array) -> Array:
    absent = np.isnan(columns)
    with np.errstate(invalid="ignore"):
        mean: Array = np.where(absent, 0, columns).sum(axis=-1) / (~absent).sum(axis=-1)
    return mean


def default_count(types: int) -> int:
    """How many types PLoP adapts unless told: the 3 lowest of 6 or more, else half of them, rounded up."""
    return 3 if types >= 6 else math.ceil(types / 2)


def resampled_types(
    sums: Array, counts: Array, types: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[list[str], Array]:
    """NFN of every type in each of `resamples` bootstrap draws of the samples.

    Returns the type names, sorted, and a matrix (resamples, types). Seeded: the same input gives the same digits.
    """
    samples = len(sums)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(samples, np.full(samples, 1 / samples), size=resamples).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = by_type((weights @ sums) / (weights @ counts), types)
    names = sorted(drawn)
    return names, np.stack([drawn[name] for name in names], axis=1)
