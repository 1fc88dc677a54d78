"""Significance by resampling, sharing no code with plop: a bootstrap of t with jackknife errors, and Holm's rule.

It knows a sample matrix's sums and counts and the type of each column, and nothing of influence functions or Student.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plop_registry import SampleMatrix

RESAMPLES = 5000


def marks(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several p-values are significant by Holm's rule: step down from the smallest, stop at the first miss."""
    found = [False] * len(p)
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        if p[place] * (len(p) - rank) >= level:
            break
        found[place] = True
    return found


def p_values(
    one: SampleMatrix, other: SampleMatrix, types: Sequence[str], *, paired: bool, seed: int = 0
) -> dict[str, float]:
    """Two-sided p of each type's difference: how often resampling moves it by as many of its errors as it is from 0."""
    rng = np.random.default_rng(seed)
    if paired:
        drawn = _weights(rng, len(one.texts))
        observed, error = _paired(one, other, types, np.ones((1, len(one.texts))))
        resampled, errors = _paired(one, other, types, drawn)
    else:
        whole = [_jackknife(each, types, np.ones((1, len(each.texts)))) for each in (one, other)]
        draws = [_jackknife(each, types, _weights(rng, len(each.texts))) for each in (one, other)]
        observed, resampled = (a[0] - b[0] for a, b in (whole, draws))
        error, errors = (np.sqrt(a[1] + b[1]) for a, b in (whole, draws))
    beyond = np.abs((resampled - observed) / errors) >= np.abs(observed / error)
    p = (beyond.sum(axis=0) + 1) / (RESAMPLES + 1)
    return dict(zip(dict.fromkeys(types), p.tolist(), strict=True))


def _weights(rng: np.random.Generator, samples: int) -> np.ndarray:
    return rng.multinomial(samples, np.full(samples, 1 / samples), size=RESAMPLES).astype(float)


def _nfn(sums: np.ndarray, counts: np.ndarray, types: Sequence[str]) -> np.ndarray:
    """Step 1 and Step 2: the last axis goes from modules to types."""
    means = sums / counts
    places = [[i for i, kind in enumerate(types) if kind == name] for name in dict.fromkeys(types)]
    return np.stack([means[..., place].mean(axis=-1) for place in places], axis=-1)


def _left_out(matrix: SampleMatrix, types: Sequence[str], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NFN of each weighting, and without one copy of each sample in turn: (draws, types), (samples, draws, types)."""
    sums, counts = matrix.sums.astype(float), matrix.counts.astype(float)
    all_sums, all_counts = weights @ sums, weights @ counts
    without = [_nfn(all_sums - s, all_counts - c, types) for s, c in zip(sums, counts, strict=True)]
    return _nfn(all_sums, all_counts, types), np.stack(without)


def _variance(without: np.ndarray, weights: np.ndarray) -> np.ndarray:
    samples, copies = len(without), weights.T[:, :, None]
    without = np.where(copies > 0, without, 0)
    mean = (copies * without).sum(axis=0) / samples
    return (samples - 1) / samples * (copies * (without - mean) ** 2).sum(axis=0)


def _jackknife(matrix: SampleMatrix, types: Sequence[str], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nfn, without = _left_out(matrix, types, weights)
    return nfn, _variance(without, weights)


def _paired(
    one: SampleMatrix, other: SampleMatrix, types: Sequence[str], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    (nfn, without), (other_nfn, other_without) = (_left_out(each, types, weights) for each in (one, other))
    return nfn - other_nfn, np.sqrt(_variance(without - other_without, weights))
