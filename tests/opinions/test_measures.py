"""What singular values say, against independent readings of the methods' definitions."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import Tensor

from plop_cli.opinions import measures
from plop_cli.opinions.measures import Matrix, Unsaid, alpha, hill, of_spectrum
from plop_cli.opinions.methods import OF_WEIGHTS
from plop_cli.opinions.spectra import singular_values
from readings import READINGS, reading


def matrix(rows: int, columns: int, *, condition: float = 30.0, seed: int = 0) -> Tensor:
    """Random singular vectors; singular values from 1 down to 1 / condition."""
    generator = torch.Generator().manual_seed(seed)
    few = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, few, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, few, generator=generator, dtype=torch.float64))
    return left @ torch.diag(torch.logspace(0, -math.log10(condition), few, dtype=torch.float64)) @ right.T


@pytest.mark.parametrize("shape", [(96, 40), (40, 96), (64, 64), (1, 7), (7, 1), (33, 70)])
@pytest.mark.parametrize("condition", [1.5, 1e3, 1e7])
def test_singular_values_are_those_of_numpy(shape: tuple[int, int], condition: float) -> None:
    W = matrix(*shape, condition=condition)
    expected = np.linalg.svd(W.numpy(), compute_uv=False)
    assert singular_values(W).numpy() == pytest.approx(expected, rel=1e-5, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_singular_values_are_exact_for_the_weights_as_they_are_stored(dtype: torch.dtype) -> None:
    W = matrix(50, 30).to(dtype)
    expected = np.linalg.svd(W.double().numpy(), compute_uv=False)
    assert singular_values(W).numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(96, 40), (40, 96), (64, 64)])
@pytest.mark.parametrize("method", READINGS)
def test_a_method_says_what_its_definition_says(method: str, shape: tuple[int, int]) -> None:
    W = matrix(*shape)
    assert of_spectrum(method, singular_values(W).numpy(), Matrix(*shape)) == pytest.approx(
        reading(method, W.numpy()), 1e-5
    )


def test_spectrums_noise_ends_at_the_edge_of_a_random_matrix() -> None:
    """The quartiles of 1 … 63 and 200 are 16.75 and 48.25: ε = 2 · 31.5 / 1.349 = 46.7."""
    S = np.array([200.0, *range(63, 0, -1)])
    signal = sum(range(47, 64)) + 200
    assert of_spectrum("snr", S, Matrix(64, 64)) == pytest.approx(signal / sum(range(1, 47)) / 200)


def pareto(exponent: float, count: int = 4000) -> np.ndarray:
    """Singular values whose squares are the quantiles of a power law from 1 on."""
    at = (np.arange(count) + 0.5) / count
    return np.sqrt((1 - at) ** (-1 / (exponent - 1)))[::-1].copy()


@pytest.mark.parametrize("exponent", [2.0, 3.5, 6.0])
def test_a_power_law_has_its_own_exponent(exponent: float) -> None:
    S = pareto(exponent)
    assert alpha(S, Matrix(1, 1)) == pytest.approx(exponent, rel=0.02)
    assert hill(S, Matrix(1, 1)) == pytest.approx(exponent, rel=0.02)


def test_the_tail_begins_where_the_power_law_does() -> None:
    """Half of the eigenvalues lie in a bulk below; with it the exponent would be another."""
    S = np.concatenate([pareto(3.0), np.linspace(1.0, 0.3, 4000)])
    assert alpha(S, Matrix(1, 1)) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("kind", ["normal", "pareto", "matrix", "ties"])
def test_the_tail_is_the_best_of_all(kind: str) -> None:
    """Though not all are fitted to the end."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        number = int(rng.integers(60, 400))
        drawn = {
            "normal": lambda: np.abs(rng.normal(size=number)),  # noqa: B023
            "pareto": lambda: rng.pareto(2, number),  # noqa: B023
            "matrix": lambda: np.linalg.svd(rng.normal(size=(number, number + 50)), compute_uv=False),  # noqa: B023
            "ties": lambda: np.round(rng.pareto(1.5, number), 1),  # noqa: B023
        }[kind]
        S = 10 * np.sort(drawn() + 0.1)[::-1]
        logs, slopes = measures._tails(S)
        distances = [measures._distance(logs[start:], slope) for start, slope in enumerate(slopes)]
        assert alpha(S, Matrix(1, 1)) == slopes[int(np.argmin(distances))]


@pytest.mark.parametrize(
    ("method", "S", "reason"),
    [
        ("snr", np.ones(5), "all of its singular values are signal"),
        ("alpha", np.linspace(2, 1, 19), "19 of its eigenvalues are over 1e-05, and a fit needs 20"),
        ("hill", np.full(30, 1e-4), "0 of its eigenvalues are over 1e-05"),
        ("alpha", np.ones(30), "all the same, and have no tail"),
        ("hill", 1 + 1e-6 * np.linspace(1, 0, 30), "all the same, and have no tail"),  # orthogonal, in float32
        (
            "hill",
            np.r_[np.full(40, 3.0), np.linspace(2, 1, 24)],
            "the larger half of its singular values are all the same",
        ),
        (
            "hill",
            np.r_[3 + 1e-7 * np.linspace(1, 0, 40), np.linspace(2, 1, 24)],
            "the larger half",
        ),  # clipped, in float32
        ("kappa", np.array([1e308, 1e-320]), "too large or too small for float64"),
        ("kappa", np.array([1e-10, 1e-12]), "all below the 1e-08 that PEFT adds"),
        ("snr", np.array([3.0, 2.0, 1.0, *[1e-16] * 29]), "all of its singular values are signal"),
    ],
)
def test_where_there_is_nothing_to_say_it_is_said_why(method: str, S: np.ndarray, reason: str) -> None:
    with pytest.raises(Unsaid, match=reason):
        of_spectrum(method, S, Matrix(len(S), len(S)))


@pytest.mark.parametrize("method", OF_WEIGHTS)
@pytest.mark.parametrize("S", [np.ones(1), np.ones(30), np.array([1.0, *[0.0] * 29]), np.full(40, 1e-30)])
def test_no_matrix_has_a_value_that_is_not_finite(method: str, S: np.ndarray) -> None:
    """One of rank one, of one column, of equal singular values, of tiny ones."""
    with suppress(Unsaid):
        assert math.isfinite(of_spectrum(method, S, Matrix(len(S), len(S))))
