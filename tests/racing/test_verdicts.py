"""What a race says, held against races of which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from plop_cli.method.significance import LEVEL
from plop_cli.racing.sentences import answer, notes
from plop_cli.racing.verdicts import EARLY, behind, best, crossed, stand, winner
from races import made_race

Tables = dict[str, NDArray[np.float64]]
RACES = 1000


def simulated(
    draw: np.random.Generator, worse: list[float], *, seeds: int, examples: int, noise: tuple[float, float, float]
) -> Tables:
    """Test losses of contestants that are `worse` by so much: hard examples are hard for all; a contestant has its
    own luck with seeds, with examples and with both, of these standard deviations."""
    hard = draw.normal(1.5, 0.5, (1, examples)) + draw.normal(0, 0.01, (seeds, 1))
    a, b, r = (deviation / math.sqrt(2) for deviation in noise)
    return {
        str(number): hard
        + shift
        + draw.normal(0, a, (seeds, 1))
        + draw.normal(0, b, (1, examples))
        + draw.normal(0, r, (seeds, examples))
        for number, shift in enumerate(worse)
    }


def error_of(*, seeds: int, examples: int, noise: tuple[float, float, float]) -> float:
    """The true standard error of the difference of two contestants in a whole race."""
    a, b, r = noise
    return math.sqrt(a**2 / seeds + b**2 / examples + r**2 / seeds / examples)


def raced(tables: Tables, *, early: bool) -> tuple[list[str], str]:
    """Who was called worse than the leader, and who leads at the end, with or without dropping out on the way."""
    racing, out = dict(tables), list[str]()
    seeds = len(next(iter(tables.values())))
    for seen in range(2, seeds + 1):
        last = seen == seeds
        if last or early:
            found = behind({name: table[:seen] for name, table in racing.items()}, LEVEL if last else EARLY)
            out += found
            racing = {name: table for name, table in racing.items() if name not in found}
    ahead = {name: float(table.mean()) for name, table in racing.items()}
    return out, min(ahead, key=ahead.__getitem__)


SETTINGS = [
    {"seeds": 3, "examples": 100, "noise": (0.002, 0.05, 0.02)},
    {"seeds": 3, "examples": 200, "noise": (0.003, 0.05, 0.05)},
    {"seeds": 5, "examples": 200, "noise": (0.003, 0.05, 0.05)},
]


MORE = [
    {"seeds": 3, "examples": 100, "noise": noise}
    for noise in ((0.01, 0.02, 0.02), (0.01, 0.002, 0.002), (0.003, 0.02, 0.05))
]
"""Where seeds differ as much as examples do, or more; or neither explains much."""


@pytest.mark.slow
def test_two_equal_contestants_are_called_different_in_at_most_5_percent() -> None:
    """Of all races together; in no setting more often than a thousand races of exactly 5 % would show."""
    draw = np.random.default_rng(1)
    called = [
        sum(bool(raced(simulated(draw, [0, 0], **setting), early=True)[0]) for _ in range(RACES))
        for setting in (*SETTINGS, *MORE)
    ]
    assert sum(called) <= 0.05 * RACES * len(called)
    assert max(called) <= 0.064 * RACES


@pytest.mark.slow
@pytest.mark.parametrize(("errors", "found"), [(2, 0.35), (3, 0.7), (4, 0.9)])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_difference_is_found_and_in_the_right_direction(setting: dict, errors: int, found: float) -> None:
    """At 5 % risk, two standard errors can be found in 52 % at best: 1.96 of them are needed, were the noise known."""
    draw = np.random.default_rng(3)
    shift = errors * error_of(**setting)
    outcomes = [raced(simulated(draw, [0, shift], **setting), early=True) for _ in range(RACES)]
    assert sum(out == ["1"] for out, _ in outcomes) >= found * RACES
    assert sum(out == ["0"] for out, _ in outcomes) <= 0.001 * RACES
    assert sum(leader == "0" for _, leader in outcomes) >= 0.97 * RACES


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_dropping_out_early_hardly_ever_picks_another_winner(shift: int) -> None:
    draw = np.random.default_rng(4)
    setting = SETTINGS[2]
    worse = [0, 0, shift * error_of(**setting), 2 * shift * error_of(**setting)]
    tables = [simulated(draw, worse, **setting) for _ in range(RACES)]
    other = [raced(each, early=True)[1] != raced(each, early=False)[1] for each in tables]
    assert sum(other) <= 0.02 * RACES


@pytest.mark.slow
def test_the_error_of_a_mean_is_that_of_crossed_draws() -> None:
    """Over many tables the estimated variance of the mean is the variance of the mean, on the safe side."""
    draw = np.random.default_rng(5)
    setting = {"seeds": 4, "examples": 40, "noise": (0.01, 0.1, 0.05)}
    gaps = []
    for _ in range(3000):
        tables = simulated(draw, [0, 0], **setting)
        gaps.append(crossed(tables["1"] - tables["0"]))
    true = error_of(**setting) ** 2
    assert np.mean([gap.mean**2 for gap in gaps]) == pytest.approx(true, rel=0.1)
    assert 0.98 * true < np.mean([gap.stderr**2 for gap in gaps]) < 1.25 * true


def test_the_interval_excludes_zero_exactly_where_chance_is_below_5_percent() -> None:
    draw = np.random.default_rng(6)
    for shift in np.linspace(0, 0.05, 40):
        gap = crossed(draw.normal(shift, 0.02, (3, 20)) + draw.normal(0, 0.01, (3, 1)))
        assert (abs(gap.mean) > gap.half) == (gap.p < LEVEL)


def test_one_seed_decides_nothing() -> None:
    race = made_race({"PLoP": np.ones((1, 20)), "MLP": np.full((1, 20), 9.0)})
    assert [each.verdict for each in stand(race)] == ["", "cannot be told"]
    assert "one seed tells no spread, so nothing can be decided; give --seeds 2 or more" in list(notes(race))


def test_a_lap_that_diverged_is_marked_and_not_averaged() -> None:
    draw = np.random.default_rng(7)
    tables = {"PLoP": draw.normal(1, 0.1, (3, 30)), "MLP": draw.normal(1, 0.1, (3, 30))}
    tables["MLP"][1] = np.nan
    standing = next(each for each in stand(made_race(tables)) if each.entry.name == "MLP")
    assert (standing.seeds, standing.diverged) == ((0, 2), 1)
    assert standing.loss.mean == pytest.approx(tables["MLP"][[0, 2]].mean())
    assert standing.behind is not None
    assert standing.behind.mean == pytest.approx((tables["MLP"] - tables["PLoP"])[[0, 2]].mean())


def test_of_those_that_cannot_be_told_apart_the_smallest_is_taken_and_the_sentence_says_so() -> None:
    draw = np.random.default_rng(8)
    hard = draw.normal(1, 0.3, (1, 60))
    tables = {name: hard + draw.normal(0, 0.02, (3, 60)) for name in ("PLoP", "MLP", "Attn")}
    tables["Attn"] += 0.1
    race = made_race(tables, parameters={"PLoP": 1000, "MLP": 990, "Attn": 900})
    assert {each.entry.name for each in best(race)} == {"PLoP", "MLP"}
    chosen = winner(race)
    assert chosen is not None
    assert chosen.entry.name == "MLP"
    assert answer(race).endswith("cannot be told apart; Attn is behind. The smallest of them is MLP.")
    verdicts = {each.entry.name: each.verdict for each in stand(race)}
    assert verdicts == {"PLoP": "", "MLP": "cannot be told", "Attn": "worse"}


def test_the_sentence_holds_to_what_the_table_says_of_the_baseline() -> None:
    """The leader varies too much to be told from PLoP, which another one beats all the same."""
    draw = np.random.default_rng(9)
    hard = draw.normal(1, 0.3, (1, 60))
    tables = {name: hard + draw.normal(0, 0.002, (3, 60)) for name in ("PLoP", "MLP", "Attn")}
    tables["MLP"] -= 0.02
    tables["Attn"] += draw.normal(0, 0.5, (3, 60))
    tables["Attn"] -= tables["Attn"].mean() - tables["MLP"].mean() + 0.001
    race = made_race(tables, parameters={"PLoP": 900, "MLP": 1000, "Attn": 1000})
    assert {each.entry.name: each.verdict for each in stand(race)} == {
        "Attn": "cannot be told", "MLP": "better", "PLoP": ""
    }  # fmt: skip
    assert [each.entry.name for each in best(race)] == ["Attn", "MLP"]
    assert answer(race).startswith("Attn and MLP cannot be told apart; PLoP is behind.")


def test_a_race_without_laps_says_that_nothing_can_be_said() -> None:
    race = made_race({"PLoP": np.empty((0, 5)), "MLP": np.empty((0, 5))})
    assert answer(race) == "No contestant has finished a lap, so nothing can be said."
    assert winner(race) is None
