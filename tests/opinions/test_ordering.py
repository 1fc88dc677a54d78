"""What opinions come to: the order of types, what is chosen, and how far two of them agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from plop_cli.opinions.beside import beside
from plop_cli.opinions.methods import METHODS
from plop_cli.opinions.ordering import agreement, kendall, of_layers, of_run, ordering
from plop_registry import ModuleValue, Opinion, Run, SampleMatrix, Skipped

MakeRun = Callable[..., tuple[Run, SampleMatrix]]


def opinion(key: str, values: Mapping[str, Sequence[float]]) -> Opinion:
    """Of the modules of these types, layer by layer."""
    named = [ModuleValue(f"{i}.{name}", name, value) for name, each in values.items() for i, value in enumerate(each)]
    return METHODS[key].opinion(named, seconds=0)


def test_a_method_adapts_its_own_end_of_the_scale() -> None:
    values = {"q": [1.0, 3.0], "k": [1.0], "v": [5.0], "o": [4.0]}
    assert ordering(opinion("snr", values)).chosen == ("v", "o")
    assert ordering(opinion("kappa", values)).chosen == ("k", "q")
    assert ordering(opinion("kappa", values), count=1).chosen == ("k",)
    assert ordering(opinion("kappa", values), exclude=["k", "o"]).chosen == ("q",)
    assert list(ordering(opinion("stable-rank", values)).values.items()) == [("v", 5), ("o", 4), ("q", 2), ("k", 1)]


def test_condition_numbers_are_averaged_by_their_logarithms() -> None:
    (only,) = ordering(opinion("kappa", {"q": [1.0, 10_000.0]})).types
    assert (only.modules, only.value) == (2, pytest.approx(100))


def test_a_method_that_tells_layers_apart_orders_no_types() -> None:
    layers = METHODS["influence"].opinion([ModuleValue("layers.0", "", 0.5)], seconds=0)
    assert (ordering(layers).types, ordering(layers).chosen) == ((), ())
    assert ordering(layers).why_none == "it tells layers apart, not types"
    assert of_layers(layers)


def test_why_no_type_is_ordered_is_said() -> None:
    only = opinion("snr", {"out_proj": [8.5]})
    assert ordering(only, exclude=["out_proj"]).why_none == "no type that may be adapted has a value"
    assert not of_layers(only)
    left_out = [Skipped("0.q", "it is zero"), Skipped("0.k", "all is signal"), Skipped("1.k", "all is signal")]
    none = METHODS["snr"].opinion([], left_out, seconds=0)
    assert ordering(none).why_none == "no module has a value: all is signal", "what most of them lack it for"


def test_all_methods_choose_as_many_types_though_some_have_values_for_few() -> None:
    kappa = opinion("kappa", {"q": [3.0], "k": [4.0], "v": [1.0], "o": [2.0], "u": [5.0], "d": [6.0]})
    few = opinion("snr", {"q": [3.0], "k": [4.0], "v": [1.0], "o": [2.0]})
    assert [len(each.order.chosen) for each in beside([kappa, few])] == [3, 3]


def test_of_several_tasks_a_type_has_the_mean_of_its_own_of_each() -> None:
    """As PLoP takes it, though modules may be missing from one of them: experts that no token reached."""
    one, other = opinion("nfn", {"q": [1.0, 3.0], "v": [4.0]}), opinion("nfn", {"q": [6.0], "k": [1.0], "v": [2.0]})
    assert ordering(one, other).values == {"v": 3.0, "q": 4.0}
    assert [each.modules for each in ordering(one, other).types] == [1, 1]
    kappa = replace(opinion("kappa", {"q": [3.0], "v": [1.0]}), seconds=2.0)
    plop, weights = beside([one, kappa], [other, kappa])
    assert (plop.order.values, weights.order.values) == ({"v": 3.0, "q": 4.0}, pytest.approx({"v": 1.0, "q": 3.0}))
    assert weights.opinion.seconds == 2.0, "computed once"


def test_types_without_nfn_are_chosen_by_no_method() -> None:
    nfn = opinion("nfn", {"q": [1.0], "k": [2.0], "v": [3.0]})
    kappa = opinion("kappa", {"dt": [1.0], "q": [2.0], "k": [3.0], "v": [4.0]})
    _, other = beside([nfn, kappa])
    assert other.order.chosen == ("q", "k")
    (alone,) = beside([kappa])
    assert alone.order.chosen == ("dt", "q")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),
        ([1, 1, 2, 3], [1, 2, 3, 4], 5 / math.sqrt(5 * 6)),  # by hand: of 6 pairs one is tied
        ([1, 1], [1, 2], None),
        ([1], [1], None),
        ([], [], None),
    ],
)
def test_kendalls_tau_counts_pairs(one: list[float], other: list[float], expected: float | None) -> None:
    assert kendall(one, other) == (None if expected is None else pytest.approx(expected))


def test_agreement_is_of_types_that_both_know_each_by_its_own_end() -> None:
    nfn = ordering(opinion("nfn", {"q": [1.3], "k": [1.5], "v": [0.6], "o": [1.2]}))
    snr = ordering(opinion("snr", {"q": [2], "v": [9], "o": [3], "extra": [1]}))
    both = agreement(snr, nfn)
    assert (both.shared, both.tau) == (("v", "o"), 1)
    assert agreement(ordering(opinion("snr", {})), nfn) == agreement(nfn, ordering(opinion("snr", {})))


def test_nfn_of_a_run_is_an_opinion_and_a_module_without_tokens_has_none(make_run: MakeRun) -> None:
    run, _ = make_run(0)
    plain, squared = of_run(run)
    assert (plain.method, squared.method) == ("nfn", "nfn-squared")
    assert ordering(plain).values == {each.type: pytest.approx(each.nfn) for each in run.types}
    unknown = [Skipped(each.name, "no token reached it") for each in run.modules if math.isnan(each.nfn)]
    assert list(plain.left_out) == unknown
