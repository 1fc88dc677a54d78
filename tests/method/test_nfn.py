"""The arithmetic where the answer is known by hand, and the baseline's error against exact values."""

from __future__ import annotations

import math
import random

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from torch import Tensor

from plop_cli import score
from plop_cli.method import nfn
from small_models import Toy, gaussian, numbers

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ROUNDING = 1e-5

repeatable = settings(derandomize=True, deadline=None, max_examples=50)
widths = st.integers(1, 40)
seeds = st.integers(0, 2**32)
texts = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=1, max_size=6)
"""Which of five inputs each token of each text brings in."""


def score_of(W: Tensor, z: Tensor, texts: list[list[int]], **options: int) -> tuple[float, float]:
    """NFN and its squared form of W, whose tokens' inputs are these rows of z, by the whole engine."""
    scores = score(Toy(W, z), Toy.tokenizer(len(z)), [numbers(text) for text in texts], **options)
    return scores.modules[0].nfn, scores.modules[0].nfn_squared


# Properties of NFN


@repeatable
@given(
    z=arrays.arrays(
        np.float32,
        st.tuples(st.just(5), widths),
        elements=st.floats(2**-6, 100, width=16) | st.floats(-100, -(2**-6), width=16),
    ),
    texts=texts,
    dtype=st.sampled_from(DTYPES),
)
def test_the_identity_scores_exactly_1(z: np.ndarray, texts: list[list[int]], dtype: torch.dtype) -> None:
    """Up to rounding: whatever comes in, goes out with the norm it had."""
    W = torch.eye(z.shape[1], dtype=dtype)
    assert score_of(W, torch.from_numpy(z).to(dtype), texts) == pytest.approx((1, 1), rel=ROUNDING)


@repeatable
@given(
    inputs=widths,
    outputs=widths,
    seed=seeds,
    texts=texts,
    scales=st.tuples(*[st.floats(-6, 6).map(lambda x: 10**x)] * 2),
)
def test_scaling_weight_or_input_changes_nothing(
    inputs: int, outputs: int, seed: int, texts: list[list[int]], scales: tuple[float, float]
) -> None:
    W, z = gaussian(outputs, inputs, seed=seed), gaussian(5, inputs, seed=seed + 1)
    assert score_of(scales[0] * W, scales[1] * z, texts) == pytest.approx(score_of(W, z, texts), rel=ROUNDING)


@repeatable
@given(inputs=widths, outputs=widths, seed=seeds, texts=texts, order=st.randoms(use_true_random=False))
def test_the_order_of_tokens_and_texts_changes_nothing(
    inputs: int, outputs: int, seed: int, texts: list[list[int]], order: random.Random
) -> None:
    W, z = gaussian(outputs, inputs, seed=seed), gaussian(5, inputs, seed=seed + 1)
    permuted = [order.sample(text, len(text)) for text in order.sample(texts, len(texts))]
    assert score_of(W, z, permuted) == pytest.approx(score_of(W, z, texts), rel=ROUNDING)


@repeatable
@given(inputs=widths, outputs=widths, seed=seeds, texts=texts, budget=st.integers(1, 60))
def test_padding_changes_nothing(inputs: int, outputs: int, seed: int, texts: list[list[int]], budget: int) -> None:
    """Each text alone has no padding; together they have as much as the budget lets them. Padding comes in as NaN."""
    W, z = gaussian(outputs, inputs, seed=seed), gaussian(5, inputs, seed=seed + 1)
    alone = np.average([score_of(W, z, [text]) for text in texts], axis=0, weights=list(map(len, texts)))
    assert score_of(W, z, texts, batch_tokens=budget) == pytest.approx(alone, rel=ROUNDING)


@settings(repeatable, max_examples=10)
@given(inputs=widths, outputs=widths, seed=seeds, texts=texts)
def test_rank_one_with_an_aligned_input_scores_1_over_mean_u1(
    inputs: int, outputs: int, seed: int, texts: list[list[int]]
) -> None:
    """W = a bᵀ and z ∥ b: ‖W z‖/‖z‖ is ‖a‖‖b‖ and ‖W u‖ is ‖a‖‖b‖·|u₁|. Squared, E u₁² = 1/in is exact.

    ‖W u‖ varies nowhere more than here: 64 probes leave a standard error of up to 4 % (of |g| - (g² - 1)/2 with g
    normal: 0.255 of 0.798 a probe). 1/NFN is unbiased, so 400 seeds bring it to 0.2 %; 1 % is five of those.
    """
    a, b = gaussian(outputs, 1, seed=seed), gaussian(1, inputs, seed=seed + 1)
    z = torch.tensor([[1.0], [-2.0], [0.1], [30.0], [-0.5]]) * b
    plain, squared = score_of(a @ b, z, texts)
    assert squared == pytest.approx(inputs, rel=ROUNDING)
    assert plain == pytest.approx(1 / _mean_u1(inputs), rel=0.16)
    norms = (a.norm() * b.norm()).item()
    baselines = [_baseline(a @ b, seed=seed).norm / norms for seed in range(400)]
    assert np.mean(baselines) == pytest.approx(_mean_u1(inputs), rel=0.01)


# The baseline


def _mean_u1(inputs: int) -> float:
    """E |u₁| for u uniform on the unit sphere of R^in."""
    return math.exp(math.lgamma(inputs / 2) - math.lgamma((inputs + 1) / 2)) / math.sqrt(math.pi)


def _baseline(W: Tensor, *, seed: int) -> nfn.Baseline:
    u = nfn.unit_probes(W.shape[1], seed=seed)
    return nfn.baseline(u @ W.T, u, W.square().sum().item() / W.shape[1])


def _exact_baseline(W: Tensor) -> float:
    """E ‖W u‖ = E ‖W g‖ · E |u₁| / E |g₁| for g normal, by quadrature.

    E √X = 1/(2√π) ∫ (1 - E e^(-tX)) t^(-3/2) dt, and for X = ‖W g‖² the inner mean is Π (1 + 2tλ)^(-1/2) over the
    eigenvalues λ of WᵀW. In s = log t the trapezoid rule is as good as exact.
    """
    eigenvalues = torch.linalg.svdvals(W.double()).square().numpy()
    s = np.linspace(-80, 80, 3201)
    exponent = -0.5 * np.log1p(2 * np.exp(s)[:, None] * eigenvalues).sum(axis=1)
    mean_norm = -np.trapezoid(np.expm1(exponent) * np.exp(-s / 2), s) / (2 * math.sqrt(math.pi))
    return float(mean_norm * _mean_u1(W.shape[1]) * math.sqrt(math.pi / 2))


@pytest.mark.parametrize(("outputs", "inputs"), [(192, 576), (576, 576), (1536, 576)])
def test_the_control_variate_takes_64_probes_below_a_thousandth_without_bias(outputs: int, inputs: int) -> None:
    """On matrices of SmolLM2's shapes with a spectrum that falls off, over 300 seeds."""
    U, S, V = torch.linalg.svd(gaussian(outputs, inputs, seed=1), full_matrices=False)
    W = U * S * torch.linspace(1, 0.2, len(S)) @ V
    truth = _exact_baseline(W)
    found = np.array([_baseline(W, seed=seed).norm for seed in range(300)]) / truth
    assert found.std() < 0.001
    assert abs(found.mean() - 1) < 4 * found.std() / math.sqrt(300)


def test_the_exact_baseline_of_these_tests_is_right_where_it_is_known_by_hand() -> None:
    one_entry = torch.zeros(3, 5)
    one_entry[1, 2] = 4
    assert _exact_baseline(torch.eye(7)) == pytest.approx(1, rel=1e-9)
    assert _exact_baseline(one_entry) == pytest.approx(4 * _mean_u1(5), rel=1e-9)


def test_a_weight_drawn_from_the_seed_of_the_probes_is_scored_like_any_other() -> None:
    """As in a model initialised after torch.manual_seed(0): the probes must not be the rows of its first weight."""
    W = gaussian(96, 96, seed=0)
    assert _baseline(W, seed=0).norm == pytest.approx(_exact_baseline(W), rel=0.01)


@repeatable
@given(inputs=widths, seed=seeds)
def test_probes_are_of_unit_norm_and_the_same_for_the_same_seed(inputs: int, seed: int) -> None:
    u = nfn.unit_probes(inputs, seed=seed)
    assert u.shape == (nfn.PROBES, inputs)
    assert u.norm(dim=1).numpy() == pytest.approx(1, rel=1e-6)
    assert torch.equal(u, nfn.unit_probes(inputs, seed=seed))
    assert inputs == 1 or not torch.equal(u, nfn.unit_probes(inputs, seed=seed + 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_are_taken_in_float32_whatever_the_dtype(dtype: torch.dtype) -> None:
    """4096 times 100 has the norm 6400 and the sum of squares 4e7, which float16 cannot hold nor bfloat16 add up."""
    assert nfn.norms(torch.full((2, 4096), 100.0, dtype=dtype)).tolist() == [6400, 6400]
    assert nfn.amplification(torch.full((1, 4096), 100.0, dtype=dtype), torch.tensor([2.0])).tolist() == [3200]


@pytest.mark.parametrize(("inputs", "rank"), [(96, 1), (96, 8), (96, 40), (576, 60), (16, 7), (4, 1), (600, 8)])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_low_rank_is_found(inputs: int, rank: int, decay: float) -> None:
    """Over 100 matrices whose singular values fall as i^-decay, from half as many probes as could be independent."""
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        left, right = (torch.randn(inputs, rank, generator=generator) for _ in range(2))
        W = left * torch.arange(1, rank + 1) ** -decay @ right.T
        outputs = nfn.unit_probes(inputs, seed=seed) @ W.T
        assert nfn.span(outputs[: inputs // 2]) == rank


def test_a_full_rank_is_found_without_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    W = torch.randn(600, 400, generator=torch.Generator().manual_seed(0))
    outputs = nfn.unit_probes(400, seed=0) @ W.T
    assert int(torch.linalg.matrix_rank(outputs)) == len(outputs)
    monkeypatch.setattr(torch.linalg, "svdvals", None)
    assert nfn.span(outputs) == len(outputs)


def test_outputs_with_nan_or_of_zeros_span_what_they_do() -> None:
    assert nfn.span(torch.zeros(8, 20)) == 0
    for value in (torch.nan, torch.inf):
        assert nfn.span(torch.full((8, 20), value)) == 0
