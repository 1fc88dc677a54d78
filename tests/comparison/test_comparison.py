"""Comparisons: what is called significant is so, what is paired, and what is said of runs that differ in more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

import bootstrap
from plop_cli.comparison.compare import compare
from plop_cli.comparison.sentences import failures
from plop_cli.method.significance import common_rows, holm, kendall_tau, two_sided
from plop_cli.runs.axes import in_training_order, names
from plop_cli.runs.rerun import command
from plop_registry import ModuleScore, Run, SampleMatrix, TypeScore

Scored = tuple[Run, SampleMatrix]
TYPES = ("q_proj", "k_proj", "v_proj", "up_proj")


@pytest.fixture
def scored(make_run: Callable[..., Scored]) -> Callable[..., Scored]:
    """Makes a run with one module for each type from its NFN in each text: (texts, types)."""
    some, _ = make_run()

    def score(
        nfn: Any,
        *,
        texts: Sequence[int] | None = None,
        tokens: Any = 10,
        types: Sequence[str] = TYPES,
        chosen: int = 2,
        **changes: Any,
    ) -> Scored:
        nfn = np.asarray(nfn, dtype=float)
        counts = np.broadcast_to(np.reshape(tokens, (-1, 1)), nfn.shape)
        matrix = SampleMatrix(
            np.array(texts if texts is not None else range(len(nfn)), dtype=np.uint64),
            nfn * counts,
            nfn * counts,
            counts,
        )
        means = ((nfn * counts).sum(axis=0) / counts.sum(axis=0)).tolist()
        low = sorted(means)[:chosen]
        run = replace(
            some,
            samples=len(nfn),
            types=tuple(
                TypeScore(name, 1, mean, mean, 0.01, mean in low) for name, mean in zip(types, means, strict=True)
            ),
            modules=tuple(
                ModuleScore(f"layers.0.{name}", name, 0, 8, 8, mean, mean, 0.01, int(counts[:, 0].sum()))
                for name, mean in zip(types, means, strict=True)
            ),
            settings={**some.settings, "samples": len(nfn)},
        )
        run = replace(run, **{"id": f"{abs(hash((run.types, tuple(changes.items())))):016x}"[:16], **changes})
        return run, matrix

    return score


Score = Callable[..., Scored]


# Statistics


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),  # one of six pairs is turned round
        ([1, 2, 3, 4], [2, 1, 4, 3], 2 / 6),
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),  # τ-b: 2 pairs agree, 2 and 3 are untied
        ([1, 1, 2, 3], [1, 1, 3, 2], 3 / 5),  # 5 untied pairs on both sides, of which 1 is turned round
    ],
)
def test_kendalls_tau_of_cases_counted_by_hand(one: list[float], other: list[float], tau: float) -> None:
    assert kendall_tau(one, other) == pytest.approx(tau)
    assert kendall_tau(other, one) == pytest.approx(tau)


@pytest.mark.parametrize("one", [[], [1], [2, 2, 2]])
def test_nothing_is_ranked_by_less_than_two_values(one: list[float]) -> None:
    assert math.isnan(kendall_tau(one, list(range(len(one)))))


@pytest.mark.parametrize("t", [0.0, 0.1, 1.0, 2.5, 7.0, 40.0])
def test_students_t_where_it_has_a_closed_form(t: float) -> None:
    assert two_sided(t, 1, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi, rel=1e-4, abs=1e-9)
    assert two_sided(-t, 1, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-4, abs=1e-9)
    if t < 10:
        assert two_sided(t, 1, 1e7) == pytest.approx(math.erfc(t / math.sqrt(2)), rel=1e-4, abs=1e-9)


def test_students_t_is_that_of_the_tables() -> None:
    for freedom, quantile in ((3, 3.182446), (10, 2.228139), (30, 2.042272), (120, 1.979930)):
        assert two_sided(2 * quantile, 2, freedom) == pytest.approx(0.05, rel=1e-4)


def test_no_error_and_no_difference_are_told_apart() -> None:
    assert two_sided(0, 0, 5) == 1
    assert two_sided(0.1, 0, 5) == 0
    assert math.isnan(two_sided(0.1, math.nan, math.nan))


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([math.nan, 0.02]) == pytest.approx([math.nan, 0.02], nan_ok=True)


def test_a_text_that_occurs_twice_is_paired_twice() -> None:
    rows = common_rows(np.array([5, 7, 7, 9], dtype=np.uint64), np.array([7, 5, 7, 7], dtype=np.uint64))
    assert rows == ([0, 1, 2], [1, 0, 2])


# Differences


def test_the_same_texts_are_paired_whatever_their_order(scored: Score) -> None:
    """Where all texts are equally long, that is the paired t-test of any textbook."""
    rng = np.random.default_rng(0)
    hard = rng.normal(1, 0.3, (20, 1)) + rng.normal(0, 0.01, (20, 4))
    easy = hard + 0.02 + rng.normal(0, 0.01, (20, 4))
    order = rng.permutation(20)
    baseline, other = scored(hard), scored(easy[order], texts=order.tolist(), task_id="b")
    column = compare([baseline, other]).columns[1]
    assert column.pairs == 20
    for place, name in enumerate(TYPES):
        each = (easy - hard)[:, place]
        difference = column.differences[name]
        assert difference.nfn == pytest.approx(each.mean(), rel=1e-4)
        assert difference.stderr == pytest.approx(each.std(ddof=1) / math.sqrt(20), rel=1e-4)
        assert difference.significant
    strangers = scored(easy, texts=range(100, 120), task_id="b")
    assert not any(d.significant for d in compare([baseline, strangers]).columns[1].differences.values())


def test_other_texts_are_compared_as_welch_does(scored: Score) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(1, 0.1, (8, 1)), rng.normal(1.1, 0.3, (30, 1))
    runs = [scored(one, types=["v"]), scored(other, types=["v"], texts=range(50, 80), task_id="b")]
    column = compare(runs).columns[1]
    difference = column.differences["v"]
    a, b = one.var(ddof=1) / 8, other.var(ddof=1) / 30
    freedom = (a + b) ** 2 / (a**2 / 7 + b**2 / 29)
    assert column.pairs == 0
    assert difference.nfn == pytest.approx(other.mean() - one.mean(), rel=1e-5)
    assert difference.stderr == pytest.approx(math.sqrt(a + b), rel=1e-5)
    assert difference.p == pytest.approx(two_sided(difference.nfn, difference.stderr, freedom), rel=1e-5)


def test_of_partly_the_same_texts_the_common_ones_are_compared(scored: Score) -> None:
    rng = np.random.default_rng(2)
    nfn = rng.normal(1, 0.2, (20, 4))
    larger, smaller = scored(nfn), scored(nfn[:10] + 0.01, task_id="b")
    comparison = compare([larger, smaller])
    column = comparison.columns[1]
    assert column.pairs == 10
    assert [d.nfn for d in column.differences.values()] == pytest.approx([0.01] * 4, abs=1e-6)
    cells = [column.scores[name].nfn - comparison.baseline.scores[name].nfn for name in TYPES]
    assert cells != pytest.approx([0.01] * 4, abs=1e-3), "the scores are of all texts, the differences are not"
    few = scored(nfn[:10], texts=[0, 1, 2, 3, *range(90, 96)], task_id="b")
    assert compare([larger, few]).columns[1].pairs == 0, "4 of 10 texts say less than all do"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("paired", [True, False])
def test_marks_are_those_of_a_bootstrap(scored: Score, paired: bool, seed: int) -> None:
    """40 texts of unequal length, and effects of none, of about one standard error, and of five or more."""
    rng = np.random.default_rng(seed)
    effects = np.array([0, 0, 0.5, 1, 5.5, 6, 7, 8])
    types = [f"t{place}" for place in range(len(effects))]
    tokens = rng.integers(20, 200, 40)
    texts = rng.normal(1, 0.5, (40, 1))
    noise = rng.normal(0, 0.1, (2, 40, len(effects)))
    step = 0.1 * math.sqrt(2 * (tokens**2).sum()) / tokens.sum()  # one standard error of the difference
    one, other = noise + texts * paired + 1
    runs = [
        scored(one, types=types, tokens=tokens),
        scored(other + effects * step, types=types, tokens=tokens, texts=range(40) if paired else range(50, 90)),
    ]
    column = compare(runs).columns[1]
    assert column.pairs == 40 * paired
    p = bootstrap.p_values(runs[1][1], runs[0][1], types, paired=paired)
    marked = [difference.significant for difference in column.differences.values()]
    assert marked == bootstrap.marks(list(p.values()))
    assert 4 <= sum(marked) < 8


@pytest.mark.parametrize(("shortest", "longest"), [(100, 100), (20, 200)])
def test_where_nothing_differs_one_comparison_in_twenty_has_a_mark(scored: Score, shortest: int, longest: int) -> None:
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(400):
        one, other = rng.normal(1, 0.1, (2, 12, 4))
        tokens = rng.integers(shortest, longest + 1, 12)
        runs = [scored(one, tokens=tokens), scored(other, tokens=tokens, texts=range(50, 62), task_id="b")]
        comparison = compare(runs)
        false += any(difference.significant for difference in comparison.columns[1].differences.values())
    assert false / 400 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 400))


def test_one_sample_has_no_error_and_no_mark(scored: Score) -> None:
    runs = [scored(np.ones((1, 4))), scored(np.full((1, 4), 2.0), texts=[9], task_id="b")]
    comparison = compare(runs)
    assert not any(difference.significant for difference in comparison.columns[1].differences.values())
    told = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert {row["difference_stderr"] for row in told["scores"]} == {None}
    assert {row["significant"] for row in told["scores"]} == {None}
    assert "cannot be told from one text" in comparison.sentence
    many = [scored(np.full((8, 4), [row]), task_id=str(row[3])) for row in ([1.0, 2, 3, 4], [1.0, 2, 3, 5])]
    assert "1 of 4 values differ" in compare([*many, *runs[:1]]).sentence, "those of one text cannot be judged"


# Types


def test_a_type_that_a_run_lacks_is_absent_and_said_so(scored: Score) -> None:
    llama = scored(np.full((4, 4), [[1.0, 2, 3, 4]]), model_id="llama")
    gpt2 = scored(np.full((4, 2), [[1.5, 2]]), types=["q_proj", "c_fc"], chosen=1, model_id="gpt2")
    comparison = compare([llama, gpt2])
    assert comparison.types == (*TYPES, "c_fc")
    assert set(comparison.columns[1].scores) == {"q_proj", "c_fc"}
    assert set(comparison.columns[1].differences) == {"q_proj"}
    assert [(row["type"], row["name"]) for row in comparison.rows()] == [
        ("q_proj", "llama"), ("q_proj", "gpt2"), *((name, "llama") for name in TYPES[1:]), ("c_fc", "gpt2")
    ]  # fmt: skip
    assert "k_proj, v_proj and up_proj: not in gpt2" in comparison.notes
    assert "c_fc: not in llama" in comparison.notes
    assert 0.0 not in [row["nfn"] for row in comparison.rows()]


def test_only_some_types_can_be_compared_and_the_placement_is_of_all(scored: Score) -> None:
    runs = [scored(np.full((4, 4), [[1.0, 2, 3, 4]])), scored(np.full((4, 4), [[1.0, 3, 2, 4]]), task_id="b")]
    comparison = compare(runs, types="[qk]_*")
    assert comparison.types == ("q_proj", "k_proj")
    assert (comparison.columns[1].gained, comparison.columns[1].lost) == (("v_proj",), ("k_proj",))
    assert comparison.columns[1].tau == pytest.approx(4 / 6)


# Words


def test_the_sentence_says_what_changes_and_what_is_not_sure(scored: Score) -> None:
    a = scored(np.full((8, 4), [[1.0, 2, 3, 4]]), task_id="a", confidence=0.99)
    b = scored(np.full((8, 4), [[1.0, 3, 2, 4]]), task_id="b", confidence=0.6)
    c = scored(np.full((8, 4), [[1.0, 2, 3, 5]]), task_id="c", confidence=0.99)
    assert compare([a, c]).sentence == (
        "LoRA belongs into q_proj and k_proj in both runs. "
        "1 of 4 values differ by more than chance, most up_proj (+1.000). "
        "The rankings of the types are the same (Kendall's τ 1.00)."
    )
    assert compare([a, b, c]).sentence == (
        "The placement changes with the task: against a, b takes v_proj instead of k_proj. "
        "The set of b is not settled: it holds in 60% of resamples. "
        "3 of 8 values differ by more than chance, most k_proj of b (+1.000). "
        "The rankings of the types are similar (Kendall's τ at least 0.67)."
    )


def test_few_texts_do_not_tell_how_sure_a_set_is(scored: Score) -> None:
    """Whatever was stored with them: eight texts are the least (`method.floor`)."""
    few = scored(np.full((7, 4), [[1.0, 2, 3, 4]]), task_id="a", confidence=1.0)
    enough = scored(np.full((8, 4), [[1.0, 3, 2, 4]]), task_id="b", confidence=1.0)
    said = compare([few, enough]).sentence
    assert "How sure the set of a is cannot be told from 7 texts." in said
    assert "set of b" not in said


def test_what_else_the_runs_differ_in_is_said(scored: Score) -> None:
    same = np.ones((4, 4))
    a, matrix = scored(same)
    changes: dict[str, Any] = {"max_length": 128, "chat": True, "moment": 2}
    b = replace(a, id="b" * 16, task_id="other", dtype="bfloat16", settings={**a.settings, **changes})
    assert compare([(a, matrix), (b, matrix)], by="task").notes == (
        "not the same dtype: float32 in gsm8k; bfloat16 in other",
        "not the same max length: 256 in gsm8k; 128 in other",
        "not the same chat: None in gsm8k; True in other",
        "not the same moment: None in gsm8k; 2 in other",
    )
    c = replace(a, id="c" * 16, dtype="bfloat16", settings={**a.settings, "dtype": "bfloat16"})
    assert compare([(a, matrix), (c, matrix)], by="dtype").notes == ()
    d = replace(a, id="d" * 16, task_id="other", model_revision="f" * 16)
    assert compare([(a, matrix), (d, matrix)], by="task").notes == (
        "not the same revision: main (01234567) in gsm8k; main (ffffffff) in other",
    )


def test_columns_are_named_by_what_tells_them_apart(scored: Score) -> None:
    run, _ = scored(np.ones((4, 4)))
    other = replace(run, id="f" * 16, model_id="org/large")
    assert names([run, other], "model") == ["org/small", "org/large"]
    assert names([run, replace(other, model_id="org/small", model_label="v2")], "model") == [
        "org/small main", "org/small v2"
    ]  # fmt: skip
    assert names([run, replace(run, id="f" * 16, model_revision="9" * 40)], "revision") == [
        "main 01234567", "main 99999999"
    ]  # fmt: skip
    assert names([run, replace(run, id="f" * 16)], "run") == [run.id[:8], "f" * 8]


def test_checkpoints_go_by_step_and_branches_by_time(scored: Score) -> None:
    run, _ = scored(np.ones((4, 4)))

    def labels(*each: str) -> list[str]:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        runs = [replace(run, model_label=label, created_at=start + timedelta(i)) for i, label in enumerate(each)]
        return [run.model_label for run in in_training_order(runs)]

    assert labels("checkpoint-1000", "checkpoint-200", "checkpoint-30") == [
        "checkpoint-30", "checkpoint-200", "checkpoint-1000"
    ]  # fmt: skip
    assert labels("v1.10", "v1.9") == ["v1.9", "v1.10"]
    assert labels("main", "checkpoint-3") == ["main", "checkpoint-3"]
    assert labels("main", "1a2b3c", "0") == ["main", "1a2b3c", "0"]


def test_conditions_name_what_meets_them(scored: Score) -> None:
    a = scored(np.full((4, 4), [[1.0, 2, 3, 4]]), task_id="a")
    b = scored(np.full((4, 4), [[1.0, 3, 2.06, 4]]), task_id="b")
    c = scored(np.full((4, 3), [[1.01, 2, 3]]), types=TYPES[:3], task_id="c")
    assert failures(compare([a, b]), "changed") == ["b takes v_proj instead of k_proj"]
    assert failures(compare([a, b]), "nfn:0.95") == ["k_proj of b differs by +1.000"]
    assert failures(compare([a, c]), "changed") == []
    assert failures(compare([a, c]), "nfn:0.5") == ["up_proj of c has no counterpart"]
    assert failures(compare([a, c], types="[qkv]*"), "nfn:0.5") == []


# The command that would score a run again


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_id": "demo", "model_label": "SmolLM2.Q4", "model_revision": "a" * 64}, "plop score demo --task gsm8k"),
        ({"model_id": "o/m", "model_revision": "a" * 40}, f"plop score o/m@{'a' * 40} --task gsm8k"),
        ({"model_id": "run", "model_label": "checkpoint-20"}, "plop score run/checkpoint-20 --task gsm8k"),
        (
            {"model_id": "my run", "task_id": "a b.csv:question"},
            "plop score 'my run' --task 'a b.csv' --column question",
        ),
        ({"model_id": "m", "task_id": "t.jsonl:{q}: {a}"}, "plop score m --task t.jsonl --template '{q}: {a}'"),
        ({"model_id": "m", "task_id": "t.tsv:{q}\\n"}, "plop score m --task t.tsv --template '{q}\\\\n'"),
        ({"model_id": "m", "task_id": "data@test:q"}, "plop score m --task data@test --column q"),
        ({"model_id": "m", "task_id": "d/*.jsonl.gz:q"}, "plop score m --task 'd/*.jsonl.gz' --column q"),
        ({"model_id": "m", "task_id": "cais/mmlu:law@test"}, "plop score m --task cais/mmlu:law@test"),
    ],
)
def test_a_run_can_be_made_again(make_run: Callable[..., Scored], changes: dict[str, str], expected: str) -> None:
    settings = {"samples": 3, "max_length": 256, "seed": 1, "dtype": "float32", "quantization": None, "chat": True}
    run, _ = make_run(**{"model_label": "", "settings": settings, **changes})
    assert command(run) == f"{expected} --samples 3 --max-length 256 --seed 1 --dtype float32 --chat"


def test_what_was_done_to_the_weights_is_done_again(make_run: Callable[..., Scored]) -> None:
    settings = {"samples": 3, "quantization": "nf4", "adapter": "0123abcd", "include": ["audio"]}
    adapted, _ = make_run(model_id="base", model_label="my-lora", settings=settings)
    assert command(adapted).endswith("--samples 3 --load-in 4bit --adapter my-lora --include audio")
    checkpoint, _ = make_run(
        model_id="run", model_label="checkpoint-20", settings=settings | {"quantization": "gguf-Q4_K"}
    )
    assert command(checkpoint) == "plop score run/checkpoint-20 --task gsm8k --samples 3 --include audio"
