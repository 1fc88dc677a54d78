"""Standard errors, the recommended types and their confidence, against resampling done here and cases known by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from plop_cli.method import estimates

LLAMA_3_2_1B_ON_MATH = {
    "q_proj": 2.58,
    "k_proj": 2.63,
    "v_proj": 0.97,
    "o_proj": 0.90,
    "gate_proj": 1.40,
    "down_proj": 1.05,
    "up_proj": 1.11,
}
"""The example output in Section 5 of the paper."""


def sampled(means: list[float], *, samples: int = 50, spread: float = 0.1, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Sums and counts (samples, modules) whose NFN is about `means`; a sample of n tokens has one factor of its own."""
    rng = np.random.default_rng(seed)
    counts = np.repeat(rng.integers(5, 80, size=(samples, 1)), len(means), axis=1).astype(float)
    return counts * means * (1 + spread * rng.standard_normal((samples, len(means)))), counts


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


def test_the_papers_example_for_llama_3_2_1b_picks_v_o_and_down() -> None:
    assert set(estimates.lowest(LLAMA_3_2_1B_ON_MATH)) == {"v_proj", "o_proj", "down_proj"}


def test_the_lowest_come_first_and_ties_go_by_name() -> None:
    scores = {"d": 1.0, "b": 2.0, "c": 1.0, "a": 2.0}
    assert estimates.lowest(scores) == ["c", "d"]
    assert estimates.lowest(scores, 3) == ["c", "d", "a"]
    for order in itertools.permutations(scores):
        assert estimates.lowest({name: scores[name] for name in order}, 3) == ["c", "d", "a"]


# Confidence


def test_wide_gaps_are_certain() -> None:
    sums, counts = sampled(list(LLAMA_3_2_1B_ON_MATH.values()), spread=0.01)
    whole, each = estimates.confidence(sums, counts, list(LLAMA_3_2_1B_ON_MATH))
    assert whole == 1.0
    assert each == {name: float(name in ("v_proj", "o_proj", "down_proj")) for name in LLAMA_3_2_1B_ON_MATH}


def test_two_tied_types_are_a_toss_up() -> None:
    """Each resample picks one of the two; over many data sets that are ties in truth, each of them half of the time."""
    tosses = []
    for seed in range(200):
        whole, each = estimates.confidence(*sampled([1.0, 1.0], seed=seed), ["a", "b"])
        assert whole in each.values()
        assert sum(each.values()) == pytest.approx(1)
        tosses.append(each["a"])
    assert np.mean(tosses) == pytest.approx(0.5, abs=0.08)


def test_the_probability_is_that_of_an_independent_bootstrap() -> None:
    sums, counts = sampled([1.0, 1.015, 2.0, 3.0], samples=40, seed=3)
    rng, same = np.random.default_rng(9), 0
    for _ in range(4000):
        rows = rng.integers(0, 40, size=40)
        drawn = sums[rows].sum(axis=0) / counts[rows].sum(axis=0)
        same += drawn[1] < drawn[0]
    _, each = estimates.confidence(sums, counts, ["a", "b", "c", "d"], 1)
    assert 0.02 < each["b"] < 0.98
    assert each["b"] == pytest.approx(same / 4000, abs=0.05)


def test_identical_types_resolve_as_the_recommendation_does() -> None:
    """Ties in every resample go by name, whichever type the model happens to hold first."""
    sums, counts = sampled([1.0, 1.0])
    sums[:, 1] = sums[:, 0]
    assert estimates.confidence(sums, counts, ["b", "a"]) == (1.0, {"b": 0.0, "a": 1.0})


def test_one_sample_says_nothing() -> None:
    whole, each = estimates.confidence(np.ones((1, 2)), np.ones((1, 2)), ["a", "b"])
    assert math.isnan(whole)
    assert all(map(math.isnan, each.values()))


def test_the_bootstrap_is_seeded() -> None:
    sums, counts = sampled([1.0, 1.01])
    first, again, other = (estimates.resampled_types(sums, counts, ["a", "b"], seed=seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (estimates.RESAMPLES, 2)
