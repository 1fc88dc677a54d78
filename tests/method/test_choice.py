"""Which types are recommended and how sure that is, against resampling done here and cases known by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from plop_cli.method.choice import PLOP, Rule, Samples, choose
from plop_cli.method.estimates import RESAMPLES
from plop_cli.method.floor import LEAST_SAMPLES, told
from synthetic_scores import sampled

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


def confidence(
    sums: np.ndarray, counts: np.ndarray, types: Sequence[str], count: int | None = None
) -> tuple[float, dict[str, float]]:
    """How sure the choice is: as a whole, and of each type."""
    choice = choose([Samples(sums, counts, types)], Rule(count))
    return choice.confidence, choice.frequency


def test_the_papers_example_for_llama_3_2_1b_picks_v_o_and_down() -> None:
    assert set(PLOP.chosen(LLAMA_3_2_1B_ON_MATH)) == {"v_proj", "o_proj", "down_proj"}


def test_the_lowest_come_first_and_ties_go_by_name() -> None:
    scores = {"d": 1.0, "b": 2.0, "c": 1.0, "a": 2.0}
    assert PLOP.chosen(scores) == ["c", "d"]
    assert Rule(3).chosen(scores) == ["c", "d", "a"]
    for order in itertools.permutations(scores):
        assert Rule(3).chosen({name: scores[name] for name in order}) == ["c", "d", "a"]


# Confidence


def test_wide_gaps_are_certain() -> None:
    sums, counts = sampled(list(LLAMA_3_2_1B_ON_MATH.values()), spread=0.01)
    whole, each = confidence(sums, counts, list(LLAMA_3_2_1B_ON_MATH))
    assert whole == 1.0
    assert each == {name: float(name in ("v_proj", "o_proj", "down_proj")) for name in LLAMA_3_2_1B_ON_MATH}


def test_two_tied_types_are_a_toss_up() -> None:
    """Each resample picks one of the two; over many data sets that are ties in truth, each of them half of the time."""
    tosses = []
    for seed in range(200):
        whole, each = confidence(*sampled([1.0, 1.0], seed=seed), ["a", "b"])
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
    _, each = confidence(sums, counts, ["a", "b", "c", "d"], 1)
    assert 0.02 < each["b"] < 0.98
    assert each["b"] == pytest.approx(same / 4000, abs=0.05)


def test_identical_types_resolve_as_the_recommendation_does() -> None:
    """Ties in every resample go by name, whichever type the model happens to hold first."""
    sums, counts = sampled([1.0, 1.0])
    sums[:, 1] = sums[:, 0]
    assert confidence(sums, counts, ["b", "a"]) == (1.0, {"b": 0.0, "a": 1.0})


# The floor: how few samples say nothing of how sure a choice is


@pytest.mark.parametrize("samples", [1, 2, LEAST_SAMPLES - 1])
def test_few_samples_say_nothing_of_how_sure_a_choice_is(samples: int) -> None:
    whole, each = confidence(*sampled([1.0, 2.0], samples=samples, spread=0.001), ["a", "b"])
    assert math.isnan(whole)
    assert all(map(math.isnan, each.values()))
    assert told(1.0, samples) is None, "nor is what an older plop stored"
    assert told(1.0, LEAST_SAMPLES) == 1.0
    assert confidence(*sampled([1.0, 2.0], samples=LEAST_SAMPLES, spread=0.001), ["a", "b"])[0] == 1.0


@pytest.mark.parametrize("shape", ["normal", "laplace", "uniform"])
def test_from_the_floor_on_chance_rarely_makes_a_tie_certain(shape: str) -> None:
    """Of two types that are tied in truth, all samples favour one by chance with probability 2 · 2⁻ⁿ; then every
    resample does. The floor is the least n at which that is under 1 %, the risk that a decision takes by default.
    """
    rng, trials = np.random.default_rng(0), 4000
    one_sign, certain = {}, {}
    for samples in (2, LEAST_SAMPLES - 1, LEAST_SAMPLES):
        size = (trials, samples)
        drawn = rng.uniform(-1, 1, size) if shape == "uniform" else getattr(rng, shape)(size=size)
        resampled = rng.multinomial(samples, [1 / samples] * samples, size=RESAMPLES) @ drawn.T
        one_sign[samples] = float(((drawn > 0).all(axis=1) | (drawn < 0).all(axis=1)).mean())
        certain[samples] = float(((resampled > 0).all(axis=0) | (resampled < 0).all(axis=0)).mean())
        assert one_sign[samples] == pytest.approx(2 * 0.5**samples, abs=0.02)
        assert certain[samples] >= one_sign[samples], "what has one sign is always certain"
    assert 2 * 0.5**LEAST_SAMPLES < 0.01 < 2 * 0.5 ** (LEAST_SAMPLES - 1)
    assert certain[2] > 0.45, "of two texts, the bootstrap calls every second tie certain"
    assert certain[LEAST_SAMPLES] < 0.04
