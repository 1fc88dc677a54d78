"""The experiments that train: what they reward and conclude, and that each runs in its quick form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from experiments.evidence import PROGRAMS
from experiments.grpo import answer_reward, format_reward
from experiments.shared import program, training
from experiments.shared.data import last_number, needed, rows
from experiments.shared.training import QUICK, Bench, Size
from experiments.shared.verdicts import spearman, verdict
from plop_cli import PlopError, recommend
from plop_cli.models.fingerprints import formerly
from plop_cli.models.source import DEMO, identify
from plop_cli.racing.training import warm_cosine
from races import write_rows
from small_models import byte_tokenizer, qwen2

ROOT = Path(__file__).parent.parent.parent


def test_a_claim_holds_or_fails_only_where_its_interval_leaves_zero_out() -> None:
    sure = [0.10, 0.11, 0.12]
    said = verdict({"A": [sure], "B": [[-0.10, -0.11, -0.12]], "C": [[-0.1, 0.0, 0.3]], "D": [[5.0]]})
    assert said.startswith("**Did not hold:** B (-0.110 ± 0.025).")
    assert "**Held:** A (0.110 ± 0.025)." in said
    assert said.endswith("**Could not be told:** C (0.067 ± 0.517); D (5.000).")


def test_a_claim_must_hold_over_seeds_and_over_pairs_and_beside_the_others() -> None:
    sure, vague = [0.10, 0.11, 0.12], [-0.1, 0.0, 0.3]
    assert verdict({"A": [sure, vague]}) == "**Could not be told:** A (0.110 ± 0.025, ± 0.517)."
    weak = [0.10, 0.12, 0.18]  # p = 0.03
    assert verdict({"A": [weak]}).startswith("**Held:**")
    assert verdict({"A": [weak], "B": [vague]}).startswith("**Could not be told:** A")


def test_spearman_counts_ranks_alone() -> None:
    assert spearman([1.0, 2.0, 30.0], [0.1, 0.2, 0.3])[0] == 1
    assert spearman([1.0, 2.0, 30.0], [9.0, 8.0, 7.0])[0] == -1
    assert spearman([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])[0] == 0.5


def test_chance_makes_a_perfect_order_of_three_in_two_of_six_cases() -> None:
    assert spearman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])[1] == pytest.approx(1 / 3, abs=0.02)


def test_the_learning_rate_warms_up_and_ends_near_zero() -> None:
    assert warm_cosine(0, 40) == 0.25
    assert max(range(40), key=lambda step: warm_cosine(step, 40)) == 3
    assert 0 < warm_cosine(39, 40) < 0.01


def test_the_last_number_is_the_answer() -> None:
    assert last_number("3 + 4 = 7\n#### 1,007.") == "1007"
    assert last_number("about -2.5 or so") == "-2.5"
    assert last_number("none") == ""


def test_rewards_are_for_each_tag_for_their_order_and_for_the_right_number() -> None:
    whole, half, wrong = "<think>1+1</think> <solution>$2.</solution>", "<think>1+1 = 2", "</think><think>"
    assert format_reward([whole, half, wrong]) == [3, 0.5, 1]
    assert answer_reward([whole, half, "<solution>1,000</solution>"], ["2", "2", "1000"]) == [2, 0, 2]


def test_a_training_that_was_kept_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, model = tmp_path / "pairs.jsonl", tmp_path / "model"
    write_rows(pairs, [{"question": f"{n} + {n} =", "answer": str(2 * n)} for n in range(40)])
    qwen2().save_pretrained(model)
    byte_tokenizer(eos_token="<pad>").save_pretrained(model)
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    placements, runs = [], []
    for trains in (True, False):  # the second, as another program would, finds all it needs
        bench = Bench(QUICK, model=str(model), data=[pairs])
        placements.append(recommend(bench.scores, model=bench.model, rank=2))
        if not trains:
            monkeypatch.setattr(training, "train", None)
        runs.append(bench.run(placements[-1], rate=1e-3, seed=0))
    assert runs[0] == runs[1]
    (kept,) = program.kept_runs(bench.kept)
    assert kept["seconds"] > 0
    with pytest.raises(TypeError):
        bench.run(placements[-1], rate=2e-3, seed=0)


def test_the_demo_model_keeps_the_name_under_which_its_trainings_were_kept() -> None:
    with formerly():
        assert identify(DEMO).revision == "a2b9550e577fad3e989e4f517bd5d6c5d9829795c812c96f377dbb1d20bf503e"


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_runs_in_its_quick_form(name: str, tmp_path: Path) -> None:
    """On pairs made here, so that no hub is needed: it prints its section, and leaves enough to draw its figures."""
    pairs = tmp_path / "pairs.jsonl"
    lines = (
        {"question": f"How much is {n} + {n}?", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(250)
    )
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    environment = os.environ | {"GSM8K": str(pairs), "PLOP_EVIDENCE": str(tmp_path)}
    asked = [sys.executable, "-m", f"experiments.{name}", "--quick"]
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n## ") + done.stdout.startswith("## ") == 1
    assert f"python -m experiments.{name} --quick" in done.stdout
    results = json.loads((tmp_path / f"{name}.quick.json").read_text())
    if name == "classification":  # nothing of one placement's training is left for the next
        assert len({run["losses"][0] for one in results["placements"].values() for run in one["runs"]}) == 1
    assert [chart.to_dict() for chart in import_module(f"experiments.{name}").draw(results).values()]


def test_what_cannot_be_done_is_said_without_a_traceback(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "experiments.sft", "--set", "epochs=3"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "Error: --set epochs=3: there is no epochs; there are " + ", ".join(asdict(Size())) + "\n"
    )


def test_data_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    other, wanted = tmp_path / "other.jsonl", {"hub": ("openai/gsm8k", "main", "train")}
    other.write_text('{"prompt": "Why?"}\n{"prompt": "How?"}\n')
    with pytest.raises(PlopError, match=r"nowhere\.jsonl cannot be read \(No such file"):
        rows("train", [tmp_path / "nowhere.jsonl"], ["question"], **wanted)
    with pytest.raises(PlopError, match=r"other\.jsonl has no question; there are prompt"):
        rows("train", [other], ["question"], **wanted)
    with pytest.raises(PlopError, match="cases for training: 3, and 8 are needed"):
        needed(3, 8, "cases for training")
