"""The learning rate: what is tried, and what is found."""

from __future__ import annotations

import math

import pytest

from plop_cli import PlopError
from plop_cli.racing.tuning import RATES, WIDER, grid, longest, tune


def tuned(best: float, rates: tuple[float, ...], steps: int = 60) -> tuple[float, list[tuple[float, int]]]:
    """The rate that is found where the loss is lowest at `best`, and all that was trained for it."""
    tuning, run, whole = tune(rates, steps), list[tuple[float, int]](), dict[float, float]()
    wave = next(tuning)
    while True:
        losses = [abs(math.log(rate / best)) for rate, _ in wave]
        run += wave
        whole |= {rate: loss for (rate, part), loss in zip(wave, losses, strict=True) if part == steps}
        try:
            wave = tuning.send(losses)
        except StopIteration:
            return min(whole, key=whole.__getitem__), run


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1e-3", (1e-3,)),
        ("1e-3..1e-3", (1e-3,)),
        ("4e-3,1e-3", (1e-3, 4e-3)),
        ("1e-3..4e-3", (1e-3, 2e-3, 4e-3)),
        (RATES, (1e-4, 2.11e-4, 4.47e-4, 9.46e-4, 2e-3)),
    ],
)
def test_a_grid_is_geometric_or_what_it_says(text: str, rates: tuple[float, ...]) -> None:
    assert grid(text) == rates


@pytest.mark.parametrize("text", ["", "fast", "0", "-1e-3", "1e-3..", "1e-3..fast", "inf", "nan", "1e-3,,2e-3", "20"])
def test_what_are_no_rates_is_refused(text: str) -> None:
    with pytest.raises(PlopError, match="are no learning rates; "):
        grid(text)


@pytest.mark.parametrize("best", [2.5e-5, 1e-4, 2.2e-4, 9e-4, 2e-3, 4e-3, 8.9e-3])
def test_the_best_rate_is_found_inside_and_beyond_the_grid(best: float) -> None:
    found, _ = tuned(best, grid(RATES))
    assert abs(math.log2(found / best)) < 0.6


def test_a_grid_of_one_is_not_tuned_and_not_widened() -> None:
    assert tuned(1.0, (1e-3,)) == (1e-3, [(1e-3, 60)])


def test_a_grid_is_widened_so_far_and_no_further() -> None:
    _, run = tuned(1.0, grid(RATES))
    assert len([rate for rate, _ in run if rate > 2e-3]) == WIDER


def test_where_all_diverge_lower_rates_are_tried() -> None:
    tuning, wave = tune((1e-2, 2e-2), 8), [(0.0, 0)]
    wave, rates = next(tuning), list[float]()
    for _ in range(3):
        rates += [rate for rate, _ in wave]
        wave = tuning.send([math.inf] * len(wave))
    assert rates == [1e-2, 2e-2, 1e-2, 5e-3]


@pytest.mark.parametrize("text", [RATES, "1e-3", "1e-3,2e-3", "1e-4..1e-2"])
def test_how_much_tuning_takes_is_known_before(text: str) -> None:
    rates = grid(text)
    middle = sorted(rates)[len(rates) // 2 if len(rates) > 2 else 0]
    _, run = tuned(middle, rates)
    inside = [lap for lap in run if lap[0] in rates]
    assert longest(rates, 60) == (len(inside), sum(steps for _, steps in inside))
