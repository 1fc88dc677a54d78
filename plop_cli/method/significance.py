"""Whether two runs' NFN differ by more than chance, and whether they rank the types alike. NumPy only.

Samples are the independent draws. Where two runs scored the same texts, a hard text is hard for both: the difference is
then taken text by text, and most of the spread cancels. Otherwise the samples are independent (Welch).
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plop_cli.method import estimates
from plop_cli.method.estimates import Array, influence, module_means, standard_error
from plop_registry import Run, SampleMatrix

LEVEL = 0.05
"""What p must be below for a difference to be called significant."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One type's NFN in a run, minus its NFN in the baseline. `p` is two-sided; NaN where one sample tells no error."""

    nfn: float
    stderr: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether chance alone would hardly make it."""
        return self.p < LEVEL


def differences(
    run: Run, matrix: SampleMatrix, baseline: Run, baseline_matrix: SampleMatrix
) -> tuple[dict[str, Difference], int]:
    """The difference of each type that both runs have, and how many texts are paired in it; 0 is Welch.

    Texts are paired where both runs scored at least half of the smaller run's texts; the difference is then that of
    these texts alone. Fewer common texts say less than all texts do as independent samples.
    """
    rows, baseline_rows = common_rows(matrix.texts, baseline_matrix.texts)
    smaller = min(len(matrix.texts), len(baseline_matrix.texts))
    paired = len(rows) >= max(2.0, smaller / 2)
    own = _measured(run, matrix, rows if paired else None)
    base = _measured(baseline, baseline_matrix, baseline_rows if paired else None)
    by_type = {}
    for name in (name for name in own.nfn if name in base.nfn):
        value = own.nfn[name] - base.nfn[name]
        if paired:
            error, freedom = float(standard_error(own.phi[name] - base.phi[name])), own.freedom
        else:
            error, freedom = _welch(own, base, name)
        by_type[name] = Difference(value, error, two_sided(value, error, freedom))
    return by_type, len(rows) if paired else 0


@dataclass(frozen=True, slots=True)
class _Measured:
    """NFN of each type over some texts, what each text adds to its error, and the error's degrees of freedom."""

    nfn: dict[str, float]
    phi: dict[str, Array]
    freedom: float


def _measured(run: Run, matrix: SampleMatrix, rows: list[int] | None) -> _Measured:
    names = [module.type for module in run.modules]
    chosen = slice(None) if rows is None else rows
    sums, counts = matrix.sums[chosen].astype(float), matrix.counts[chosen].astype(float)
    nfn = {name: float(mean) for name, mean in estimates.by_type(module_means(sums, counts), names).items()}
    return _Measured(nfn, estimates.by_type(influence(sums, counts), names), _freedom(counts.sum(axis=1)))


def _freedom(tokens: Array) -> float:
    """Of n texts n − 1 where all are equally long, less where few long ones make the mean (Satterthwaite)."""
    weights = tokens**2
    return max(1.0, float(weights.sum() ** 2 / (weights**2).sum()) - 1)


def _welch(own: _Measured, base: _Measured, name: str) -> tuple[float, float]:
    """Standard error of the difference of independent samples, and its degrees of freedom."""
    a, b = (float(standard_error(measured.phi[name])) ** 2 for measured in (own, base))
    spread = a**2 / own.freedom + b**2 / base.freedom
    return math.sqrt(a + b), (a + b) ** 2 / spread if spread else math.inf


def common_rows(own: NDArray[np.uint64], base: NDArray[np.uint64]) -> tuple[list[int], list[int]]:
    """Rows of the same texts in both; a text that occurs twice in each is paired twice."""
    rows_of = defaultdict[int, deque[int]](deque)
    for row, text in enumerate(base.tolist()):
        rows_of[text].append(row)
    pairs = [(row, rows_of[text].popleft()) for row, text in enumerate(own.tolist()) if rows_of[text]]
    return [row for row, _ in pairs], [row for _, row in pairs]


def two_sided(value: float, error: float, freedom: float) -> float:
    """The probability that Student's t exceeds |value / error| on either side.

    With t = √ν·tan θ the density is proportional to cos^(ν−1) θ, whose integral from 0 to π/2 is
    √π·Γ(ν/2) / 2Γ((ν+1)/2); what lies beyond the observed angle is summed up (trapezoids).
    """
    if math.isnan(value) or math.isnan(error):
        return math.nan
    if error == 0:
        return float(value == 0)
    start, width = math.atan2(abs(value) / error, math.sqrt(freedom)), 1 / math.sqrt(freedom)
    theta, step = np.linspace(start, min(math.pi / 2, start + 10 * width), 4001, retstep=True)
    density = np.cos(theta) ** (freedom - 1)
    beyond = float(step * (density.sum() - (density[0] + density[-1]) / 2))
    whole = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi) / 2
    return min(1.0, beyond / whole)


def critical(chance: Callable[[float], float]) -> float:
    """The t whose `chance`, which falls with t, is LEVEL: so many standard errors are half a 95 % interval."""
    low, high = 0.0, 13.0  # quantiles of t with one degree of freedom or more
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) > LEVEL else (low, middle)
    return high


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being several: below 0.05 with at most 5 % risk that even one is a fluke. NaN stays."""
    known = sorted((p, index) for index, p in enumerate(values) if not math.isnan(p))
    corrected, least = [math.nan] * len(values), 0.0
    for rank, (p, index) in enumerate(known):
        corrected[index] = least = max(least, min(1.0, p * (len(known) - rank)))
    return corrected


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's τ-b: 1 for the same ranking, −1 for the reverse; NaN where one side ranks nothing (all ties)."""
    above = np.triu_indices(len(one), 1)
    signs = [np.sign(np.subtract.outer(values, values))[above] for values in map(np.asarray, (one, other))]
    untied = math.prod(int(np.count_nonzero(sign)) for sign in signs)
    return float((signs[0] * signs[1]).sum()) / math.sqrt(untied) if untied else math.nan
