"""Means and standard errors, against resampling done here and cases known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plop_cli.method import estimates
from synthetic_scores import sampled

# Means and standard errors


def test_a_module_mean_is_over_all_tokens_and_not_over_texts() -> None:
    sums, counts = np.array([[1.0, 2], [9, 0]]), np.array([[1.0, 2], [3, 0]])
    assert estimates.module_means(sums, counts).tolist() == [10 / 4, 2 / 2]


def test_a_module_without_tokens_has_no_mean() -> None:
    assert math.isnan(estimates.module_means(np.zeros((2, 1)), np.zeros((2, 1)))[0])


def test_a_type_is_the_plain_mean_of_its_modules_in_order_of_appearance() -> None:
    found = estimates.by_type(np.array([[1.0, 10, 3], [2, 20, 6]]), ["v", "q", "v"])
    assert {name: values.tolist() for name, values in found.items()} == {"v": [2, 4], "q": [10, 20]}
    assert list(found) == ["v", "q"]


def test_the_influence_of_all_samples_sums_to_nothing() -> None:
    sums, counts = sampled([1.0, 2.0])
    assert estimates.influence(sums, counts).sum(axis=0) == pytest.approx(0, abs=1e-12)


def test_standard_errors_are_those_of_an_independent_bootstrap() -> None:
    """Of modules and of types whose modules rise and fall together, within 5 % (20,000 draws err by 0.5 %)."""
    sums, counts = sampled([0.6, 0.9, 1.5], samples=120)
    sums[:, 1] = sums[:, 0] * 1.5 + 0.2 * sums[:, 1]
    rng = np.random.default_rng(1)
    drawn = np.empty((20_000, 3))
    for draw in drawn:
        rows = rng.integers(0, 120, size=120)
        draw[:] = sums[rows].sum(axis=0) / counts[rows].sum(axis=0)
    phi = estimates.influence(sums, counts)
    assert estimates.standard_error(phi) == pytest.approx(drawn.std(axis=0), rel=0.05)
    of_type = estimates.by_type(phi, ["a", "a", "b"])["a"]
    assert estimates.standard_error(of_type) == pytest.approx(drawn[:, :2].mean(axis=1).std(), rel=0.05)


def test_with_texts_of_one_length_the_standard_error_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).random((30, 2))
    phi = estimates.influence(7 * values, np.full((30, 2), 7.0))
    assert estimates.standard_error(phi) == pytest.approx(values.std(axis=0, ddof=1) / math.sqrt(30))


def test_one_sample_has_no_standard_error() -> None:
    assert np.isnan(estimates.standard_error(np.zeros((1, 3)))).all()


# The recommended types


def test_three_of_six_or_more_types_are_adapted_else_half_rounded_up() -> None:
    assert [estimates.default_count(types) for types in range(1, 10)] == [1, 1, 2, 2, 3, 3, 3, 3, 3]


def test_the_bootstrap_is_seeded() -> None:
    sums, counts = sampled([1.0, 1.01])
    first, again, other = (estimates.resampled_types(sums, counts, ["a", "b"], seed=seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (estimates.RESAMPLES, 2)
