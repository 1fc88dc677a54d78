"""From scores to a placement: what is chosen, how sure that is, of what rank, and what cannot be chosen."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from plop_cli import PlopError
from plop_cli.method import estimates
from plop_cli.method.choice import Rule
from plop_cli.method.estimates import default_count
from plop_cli.placement.ranks import parse_count
from plop_cli.placement.recommend import StoredScores, recommend
from plop_cli.placement.targets import hits, regex, shortest
from plop_cli.scoring.measurement import summarize
from plop_registry import SampleMatrix
from synthetic_scores import LLAMA_ON_MATH, SyntheticScores, synthetic

CLOSE = {"a_proj": 0.90, "b_proj": 1.000, "c_proj": 1.006, "d_proj": 1.3}


def gpt2() -> Any:
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_layer=2, n_embd=32, n_head=2, vocab_size=99))


# Which types


def test_on_the_released_values_for_llama_the_rule_picks_what_the_paper_picks() -> None:
    scores = synthetic(LLAMA_ON_MATH)
    assert recommend(scores).choice.chosen == ["o_proj", "v_proj", "down_proj"]
    assert recommend(scores, invert=True).choice.chosen == ["k_proj", "q_proj", "gate_proj"]


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        ({}, ["o_proj", "v_proj", "down_proj"]),
        ({"types": 1}, ["o_proj"]),
        ({"types": 7}, ["o_proj", "v_proj", "down_proj", "up_proj", "gate_proj", "q_proj", "k_proj"]),
        ({"below": 1.1}, ["o_proj", "v_proj", "down_proj"]),
        ({"below": 2}, ["o_proj", "v_proj", "down_proj", "up_proj", "gate_proj"]),
        ({"exclude": ["v_proj"]}, ["o_proj", "down_proj", "up_proj"]),
        ({"types": 2, "invert": True, "exclude": ["k_proj"]}, ["q_proj", "gate_proj"]),
        ({"targets": ["v_proj", "k_proj"]}, ["k_proj", "v_proj"]),
        ({"targets": ["v_proj", "k_proj"], "exclude": ["k_proj"]}, ["v_proj"]),
        ({"targets": ["v_proj"], "by": "module"}, ["v_proj"]),
    ],
)
def test_types_are_chosen_as_asked(wish: dict[str, Any], chosen: list[str]) -> None:
    placement = recommend(synthetic(LLAMA_ON_MATH), **wish)
    assert placement.choice.chosen == chosen
    assert placement.targets == tuple(sorted(chosen))
    assert {module.type for module in placement.modules} == set(chosen)
    assert list(placement.choice.nfn) == sorted(placement.choice.nfn, key=placement.choice.nfn.__getitem__)


def test_the_confidence_is_the_one_that_is_stored_with_a_score() -> None:
    scores = synthetic(CLOSE, noise=0.05)
    _, _, confidence = summarize(scores.modules, scores.matrix, seed=0)
    choice = recommend(scores).choice
    assert 0.5 < choice.confidence < 0.9
    assert choice.confidence == confidence


@given(st.lists(st.floats(0.1, 3), min_size=2, max_size=9, unique=True), st.data())
def test_a_rule_takes_the_lowest_or_with_invert_the_highest(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)) | st.none())
    ranked, wanted = sorted(values), default_count(len(values)) if count is None else count
    nfn = np.array(values)
    assert sorted(nfn[Rule(count).mask(nfn)]) == ranked[:wanted]
    assert sorted(nfn[Rule(count, invert=True).mask(nfn)]) == ranked[-wanted:]


def test_what_has_no_nfn_is_never_chosen() -> None:
    nfn = np.array([math.nan, 1, 2])
    for rule in (Rule(3), Rule(3, invert=True), Rule(below=9)):
        assert rule.mask(nfn).tolist() == [False, True, True]


# How sure


def test_types_too_close_to_call_are_named_with_the_samples_that_would_settle_it() -> None:
    """That many more do settle it in most of the tasks that are in doubt; the estimate has an error of its own."""
    doubted = settled = 0
    for seed in range(30):
        scores = synthetic(CLOSE, samples=4096, layers=1, seed=seed)
        choice = recommend(scores.first(64), types=2).choice
        assert bool(choice.close) == (choice.confidence < 0.95)
        if choice.close:
            assert set(choice.close) == {"b_proj", "c_proj"}
            assert choice.samples_wanted
            doubted += 1
            settled += recommend(scores.first(64 + choice.samples_wanted), types=2).choice.confidence >= 0.95
    assert doubted >= 10
    assert settled >= 0.75 * doubted


def test_the_estimate_is_the_one_of_a_normal_approximation() -> None:
    """With a gap of one standard error, (2.326 / 1)² − 1 = 4.4 times as many samples again, for a risk of 1 %."""
    scores = synthetic({"a": 1.0, "b": 1.5}, samples=100, noise=0.1, layers=1)
    sums, counts = scores.matrix.sums.astype(float), scores.matrix.counts.astype(float)
    phi = estimates.influence(sums, counts)
    error = estimates.standard_error(phi[:, [1]] - phi[:, [0]])[0]
    means = estimates.module_means(sums, counts)
    sums[:, 1] += (means[0] + error - means[1]) * counts[:, 1]
    matrix = SampleMatrix(scores.matrix.texts, sums, sums, counts)
    choice = recommend(SyntheticScores(scores.modules, matrix)).choice
    assert choice.close == ["a", "b"]
    assert choice.samples_wanted == pytest.approx(441, abs=6)
    assert choice.confidence == pytest.approx(0.841, abs=0.04)


def test_against_a_threshold_each_type_is_called_alone() -> None:
    choice = recommend(synthetic(CLOSE, noise=0.05), below=1.003).choice
    assert set(choice.close) == {"b_proj", "c_proj"}
    assert choice.frequency["a_proj"] == 1
    assert choice.samples_wanted


def test_of_a_tie_no_number_of_samples_is_promised() -> None:
    """b has a's values on other texts: the same mean, and no sign of which is lower."""
    scores = synthetic({"a_proj": 1.0, "b_proj": 1.0, "c_proj": 2.0}, layers=1)
    sums, counts = scores.matrix.sums.copy(), scores.matrix.counts.copy()
    sums[:, 1], counts[:, 1] = sums[::-1, 0], counts[::-1, 0]
    tied = SyntheticScores(scores.modules, SampleMatrix(scores.matrix.texts, sums, sums, counts))
    choice = recommend(tied, types=1).choice
    assert choice.confidence == pytest.approx(0.5, abs=0.05)
    assert (choice.close, choice.samples_wanted) == (["a_proj", "b_proj"], None)


# Several tasks


def test_of_several_tasks_the_mean_counts_and_each_ones_own_pick_is_shown() -> None:
    math_ = synthetic({"a_proj": 0.8, "b_proj": 1.0, "c_proj": 1.2, "d_proj": 2.0}, task="math")
    code = synthetic({"a_proj": 0.8, "b_proj": 1.6, "c_proj": 1.2, "d_proj": 2.0}, task="code", seed=1)
    placement = recommend([math_, code])
    assert placement.choice.chosen == ["a_proj", "c_proj"]
    assert {task: one.chosen for task, one in placement.by_task.items()} == {
        "math": ["a_proj", "b_proj"],
        "code": ["a_proj", "c_proj"],
    }
    assert placement.choice.nfn["b_proj"] == pytest.approx(1.3, abs=0.02)
    assert placement.to_dict()["by_task"]["code"]["chosen"] == ["a_proj", "c_proj"]


def test_two_tasks_are_redrawn_apart_from_each_other() -> None:
    """The same scores twice are two independent tasks: the mean is the same and the confidence higher."""
    scores = synthetic(CLOSE, noise=0.05)
    assert recommend([scores, scores]).choice.confidence > recommend(scores).choice.confidence


# Single modules


def test_by_module_takes_as_many_of_the_lowest_modules_as_the_types_would_hold() -> None:
    scores = synthetic(LLAMA_ON_MATH, layers=4)
    placement = recommend(scores, types=2, by="module")
    lowest = sorted(scores.modules, key=lambda module: module.nfn)[:8]
    assert sorted(placement.matched_modules) == sorted(module.name for module in lowest)
    assert hits(placement.targets, placement.names) == placement.matched_modules


# Of what rank


@pytest.mark.parametrize(
    ("wish", "rank", "alpha"),
    [
        ({}, 16, 32),
        ({"rank": 8}, 8, 16),
        ({"rank": 8, "alpha": 8}, 8, 8),
        ({"budget": 10_000}, 17, 34),  # 3 types × 2 layers × (64 + 32) = 576 for each rank
        ({"budget": 576}, 1, 2),
        ({"match": "all:3"}, 7, 14),  # 7 types against 3
        ({"match": "plop-1:5"}, 5, 10),
    ],
)
def test_the_rank_is_given_or_follows_from_a_budget_or_another_strategy(
    wish: dict[str, Any], rank: int, alpha: int
) -> None:
    placement = recommend(synthetic(LLAMA_ON_MATH), **wish)
    assert (placement.rank, placement.alpha) == (rank, alpha)
    assert placement.trainable_parameters == 576 * rank


@pytest.mark.parametrize(
    ("text", "count"), [("20M", 20_000_000), ("1.5b", 1_500_000_000), ("500 K", 500_000), ("7", 7)]
)
def test_a_budget_can_be_written_short(text: str, count: int) -> None:
    assert parse_count(text) == count


# The JSON form


def test_the_json_form_is_the_documented_one() -> None:
    found = json.loads(json.dumps(recommend(synthetic(LLAMA_ON_MATH)).to_dict(), allow_nan=False))
    assert found.keys() >= {
        "model", "tasks", "targets", "target_parameters", "matched_modules", "rank", "alpha", "trainable_parameters",
        "share", "confidence", "types", "strategies",
    }  # fmt: skip
    assert found["types"][0].keys() == {"type", "nfn", "chosen", "frequency"}
    assert found["strategies"][0].keys() >= {"name", "types", "rank", "trainable_parameters"}
    assert found["share"] is None, "of a model that was not given"
    assert [each["name"] for each in found["strategies"]] == ["PLoP", "PLoP⁻¹", "all-linear"]
    own = recommend(targets=["c_attn"], model=gpt2()).to_dict()
    assert json.dumps(own, allow_nan=False)
    assert own["confidence"] is None
    assert own["share"] == own["trainable_parameters"] / gpt2().num_parameters()


def test_a_strategy_too_large_to_be_matched_has_no_matched_rank() -> None:
    found = recommend(synthetic(LLAMA_ON_MATH), rank=1).to_dict()
    assert {each["name"]: each["matched"] and each["matched"]["rank"] for each in found["strategies"]} == {
        "PLoP": 1, "PLoP⁻¹": 1, "all-linear": None
    }  # fmt: skip


def test_scores_of_a_stored_run_need_no_torch() -> None:
    probe = (
        "import sys; sys.path.insert(0, 'tests/support'); from synthetic_scores import LLAMA_ON_MATH, synthetic;"
        "from plop_cli.placement.recommend import recommend; from plop_cli.placement.trainers.export import export;"
        "export(recommend(synthetic(LLAMA_ON_MATH)), 'peft');"
        "print(sorted({'torch', 'transformers', 'peft', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout == "[]\n"


# How targets are written


NAMES = [
    *(f"h.{i}.{part}" for i in range(12) for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
    "wte",
    "lm_head",
]


@pytest.mark.parametrize(
    ("wanted", "targets"),
    [
        ([n for n in NAMES if n.endswith("c_fc")], ("c_fc",)),
        ([n for n in NAMES if n.endswith("attn.c_proj")], ("attn.c_proj",)),
        ([n for n in NAMES if n.endswith("c_proj")], ("c_proj",)),
        ([n for n in NAMES if "attn" in n], ("attn.c_proj", "c_attn")),
        (["h.1.attn.c_attn"], ("1.attn.c_attn",)),
        (["h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.2.mlp.c_fc", "wte"], r"h\.(?:0|2)\.mlp\.c_fc|h\.0\.mlp\.c_proj|wte"),
        (["h.1.mlp.c_fc", "h.2.mlp.c_fc"], r"h\.(?:1|2)\.mlp\.c_fc"),
    ],
)
def test_targets_are_the_shortest_that_hit_nothing_else(wanted: list[str], targets: Any) -> None:
    assert shortest(wanted, NAMES) == targets


def test_where_another_tower_has_the_same_names_only_a_regex_tells_them_apart() -> None:
    names = [f"{tower}.layers.{i}.q_proj" for tower in ("text", "vision") for i in range(3)]
    assert shortest(names[:3], names) == r"text\.layers\.\d+\.q_proj"


@given(st.sets(st.sampled_from(NAMES), min_size=1))
def test_targets_hit_exactly_the_wanted_modules_whatever_they_are(wanted: set[str]) -> None:
    assert set(hits(shortest(wanted, NAMES), NAMES)) == wanted
    assert set(hits(regex(wanted, NAMES), NAMES)) == wanted


# What cannot be chosen


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"exclude": ["qproj"]}, "no module type 'qproj'; did you mean 'q_proj'?"),
        ({"targets": ["gate"]}, "no module type 'gate'; did you mean 'gate_proj'?"),
        ({"targets": ["zzz"]}, "no module type 'zzz'; there is down_proj, gate_proj"),
        ({"types": 0}, "--types is 0, and there are 7 to choose from"),
        ({"types": 8}, "--types is 8, and there are 7 to choose from"),
        ({"below": 0.5}, "no type has an NFN below 0.5; the lowest is o_proj with 0.896"),
        ({"below": 1, "types": 3}, "--below chooses all types under a threshold; leave out --types and --invert"),
        ({"rank": 0}, "--rank is 0, and rank 1 takes 576 parameters here"),
        ({"budget": 575}, "the budget is 575 parameters, and rank 1 takes 576 parameters here; give at least that"),
        ({"rank": 8, "budget": 9999}, "--rank, --match and --budget each set the rank; give one of them"),
        ({"match": "plot:8"}, "no strategy 'plot'; did you mean 'plop'?"),
        (
            {"match": "mlp:8"},
            "--match mlp:8 needs a model whose attention can be traced; here there is plop, plop-1, all",
        ),
        ({"match": "all"}, "--match all has no rank; write STRATEGY:RANK, such as all:8"),
        ({"match": "all:x"}, "--match all:x has no rank"),
    ],
)
def test_what_does_not_exist_or_comes_to_nothing_is_said_with_a_remedy(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(PlopError) as caught:
        recommend(synthetic(LLAMA_ON_MATH), **wish)
    assert message in str(caught.value)


def test_scores_from_too_few_texts_choose_nothing() -> None:
    with pytest.raises(PlopError, match="scores from 7 texts are too few to choose by; score at least 8"):
        recommend(synthetic(LLAMA_ON_MATH, samples=7))


def test_scores_of_another_model_are_refused() -> None:
    with pytest.raises(PlopError, match=r"the scores are of another model \(org/synthetic, LlamaForCausalLM\)"):
        recommend(synthetic(LLAMA_ON_MATH), model=gpt2())
    with pytest.raises(PlopError, match="the tasks have no scores of the same types"):
        recommend([synthetic(LLAMA_ON_MATH), synthetic(CLOSE)])


def test_without_scores_and_targets_there_is_nothing_to_choose_by() -> None:
    for wish in ({}, {"targets": ["c_fc"], "exclude": ["c_fc"]}):
        with pytest.raises(PlopError, match="there is nothing to choose by"):
            recommend(model=gpt2(), **wish)


@pytest.mark.parametrize("text", ["", "20X", "-5", "M", "1e6"])
def test_what_is_no_budget_is_said(text: str) -> None:
    with pytest.raises(PlopError, match="is no number of parameters; write such as 20M"):
        parse_count(text)


def test_a_stored_run_and_its_matrix_are_scores(make_run: Any) -> None:
    run, matrix = make_run(samples=16)
    placement = recommend(StoredScores(run, matrix))
    assert (placement.model, placement.tasks, placement.architecture) == ("org/small", ("gsm8k",), "LlamaForCausalLM")
    assert placement.choice.chosen == recommend(StoredScores(run, matrix)).choice.chosen
    assert len(placement.choice.chosen) == 2
