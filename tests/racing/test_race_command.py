"""`plop race` as people run it: what is said, what is refused, what survives."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plop_cli import PlopError
from plop_cli.cli.app import app
from plop_cli.opinions.methods import METHODS, OF_WEIGHTS
from plop_cli.racing.sources import shaped
from plop_registry import ModuleValue, Registry, Run, SampleMatrix, race_key
from races import made_race, sums, write_rows
from small_models import byte_tokenizer, gpt2, qwen2

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ["--steps", "4", "--batch", "4", "--rates", "2e-3", "--seeds", "2", "--contestants", "mlp,attn"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in the folder `small`, and 60 sums in `sums.jsonl`."""
    folder = tmp_path_factory.mktemp("race")
    qwen2(hidden_size=16, intermediate_size=32).save_pretrained(folder / "small")
    byte_tokenizer(eos_token="<pad>").save_pretrained(folder / "small")
    gpt2().half().save_pretrained(folder / "half")
    byte_tokenizer(eos_token="<pad>").save_pretrained(folder / "half")
    write_rows(folder / "sums.jsonl", sums(60))
    return folder


def plop(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def race(place: Path, *words: object, registry: Path | None = None, data: str = "sums.jsonl") -> Result:
    stored = ["--registry", registry or place / "registry.db"]
    return plop("race", place / "small", "--data", place / data, *QUICK, *words, *stored)


def test_a_race_is_run_shown_listed_carried_and_removed(place: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry.db"
    result = race(place, "--contestants", "plop,mlp,attn,all", registry=registry)
    assert result.exit_code == 0, result.stderr
    assert "note: sums.jsonl: 60 examples (question and answer)\n" in result.stderr
    assert "note: a tenth of them is held out for testing (6 examples)\n" in result.stderr
    assert "laps to run, about " in result.stderr
    for name in ("PLoP", "MLP", "Attn", "all-linear", "LoraConfig"):
        assert name in result.stdout
    again = race(place, "--contestants", "plop,mlp,attn,all", registry=registry)
    assert again.stdout == result.stdout
    assert "laps to run" not in again.stderr

    (listed,) = json.loads(plop("history", "--kind", "race", "-f", "json", "--registry", registry).stdout)
    shown = json.loads(plop("show", listed["race_id"][:6], "-f", "json", "--registry", registry).stdout)
    assert [each["contestant"] for each in shown["standings"]] == [
        each["contestant"] for each in sorted(shown["standings"], key=lambda each: each["loss"])
    ]
    assert {len(lap["train"]) for lap in shown["laps"]} == {4}
    assert shown["winner"] in {each["name"] for each in shown["entries"]}
    assert set(shown["nfn"]) >= {"q_proj", "down_proj"}
    assert plop("export", "-o", tmp_path / "all.jsonl", "--registry", registry).exit_code == 0
    assert plop("import", tmp_path / "all.jsonl", "--registry", tmp_path / "other.db").exit_code == 0
    other = plop("show", listed["race_id"][:6], "--registry", tmp_path / "other.db").stdout
    assert other == plop("show", listed["race_id"][:6], "--registry", registry).stdout
    removed = plop("rm", listed["race_id"], "--yes", "--registry", registry).stdout
    assert removed == f"{listed['race_id']} small on sums.jsonl\n1 removed\n"
    assert "no such races" in plop("history", "--kind", "race", "--registry", registry).stderr


def test_first_digits_that_a_race_and_runs_share_mean_neither(
    tmp_path: Path, make_run: Callable[..., tuple[Run, SampleMatrix]]
) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        run = registry.add(*make_run(0))
        made = made_race({"PLoP": np.ones((1, 2)), "MLP": np.ones((1, 2))})
        keys = ((n, race_key(model_revision=f"{n}", data_hash="d", settings=made.settings)) for n in itertools.count())
        number, key = next(each for each in keys if each[1][:4] == run.id[:4])
        registry.races.add(replace(made, key=key, model_revision=f"{number}", data_hash="d"))
    for command in (["rm", run.id[:4], "--yes"], ["show", run.id[:4]]):
        result = plop(*command, "--registry", tmp_path / "registry.db")
        assert result.exit_code == 1
        assert f"{run.id[:4]!r} fits the race {key[:16]} and the run {run.id}; give more digits" in result.stderr
    assert plop("rm", run.id, key[:5], "--yes", "--registry", tmp_path / "registry.db").stdout.endswith("2 removed\n")


MESSAGES = [{"messages": [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]}] * 20
BAD: dict[str, tuple[list[Any], list[dict[str, Any]] | None, str]] = {
    "no answers": ([], [{"question": f"{n}?", "answer": ""} for n in range(40)], "has an answer"),
    "no text": (
        [],
        [{"a": "x y", "b": "y z"}] * 40,
        "is the text? call it text, or two of them question",
    ),
    "fewer than a batch": (
        ["--batch", 60],
        None,
        "training examples: fewer than a batch (60); give more, or a smaller --batch",
    ),
    "too short": (
        ["--max-length", 2],
        None,
        "too few to race on (60 examples without an answer within 2 tokens); give a longer --max-length",
    ),
    "too few": ([], sums(2), "are too few to race on; give more"),
    "conversations without a template": ([], MESSAGES, "the tokenizer has no chat template"),
    "all of it is tested": (
        ["--test", "sums.jsonl"],
        None,
        "too few to race on (60 examples in both)",
    ),
    "a type that is not there": (["--contestants", "mlp,q_prj"], None, "no contestant 'q_prj'; did you mean 'q_proj'?"),
    "types that are not there": (["--contestants", "mlp,q_proj+x"], None, "no module type 'x'; "),
    "a run that is not there": (["--contestants", "mlp,0123abcd"], None, "no contestant '0123abcd'; "),
    "a method of layers": (["--contestants", "mlp,influence"], None, "block influence chooses no types here"),
    "a method that is not there": (["--contestants", "mlp,kapa"], None, "no contestant 'kapa'; did you mean 'kappa'?"),
    "one contestant": (["--contestants", "mlp"], None, "a race needs two contestants"),
    "budget below rank 1": (["--budget", "300"], None, "rank 1 of MLP takes "),
    "a match below rank 1": (["--match", "attn:1", "--contestants", "attn,all"], None, "rank 1 of all-linear takes "),
    "a match of nothing": (["--match", "q:1"], None, "no strategy 'q'"),
    "two sizes": (["--match", "mlp:8", "--rank", 4], None, "each set the rank; give one of them"),
    "not equally large": (["--match", "mlp:1"], None, "are not within 2% of each other's size; give --match with rank"),
    "no rates": (["--rates", "fast"], None, "are no learning rates; write 1e-4..2e-3"),
    "no minutes": (["--minutes", -1], None, "nothing can be run in no seeds or no minutes"),
    "dropout of all": (["--dropout", 1], None, "--dropout is 1.0; give at least 0 and less than 1"),
    "no data": (["--data", "nowhere.jsonl"], None, "no file nowhere.jsonl; give a file, org/name on the hub, or -"),
    "float16": (["--dtype", "float16"], None, "training in float16 loses small gradients"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(what: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, rows, said = BAD[what]
    monkeypatch.chdir(place)
    data = place / "sums.jsonl" if rows is None else write_rows(tmp_path / "rows.jsonl", rows)
    result = plop("race", place / "small", "--data", data, *QUICK, *words, "--registry", tmp_path / "registry.db")
    last = result.stderr.splitlines()[-1]
    assert result.exit_code == 1, result.output
    assert last.startswith("plop: ")
    assert said in last
    assert result.stdout == ""


def test_test_examples_that_stand_in_the_training_data_are_counted_and_said(place: Path, tmp_path: Path) -> None:
    test = write_rows(tmp_path / "test.jsonl", [*sums(60)[:3], *sums(9, seed=7)])
    result = race(place, "--test", test, registry=tmp_path / "registry.db")
    assert "note: 3 test examples stood in the training data too, and left it\n" in result.stderr


def test_what_nobody_asked_for_yet_is_computed_and_kept(place: Path, tmp_path: Path) -> None:
    words = ["--contestants", "plop,kappa,eva", "--rank", 2, "--steps", 1, "--seeds", 1, "-f", "json"]
    result = race(place, *words, registry=tmp_path / "registry.db")
    assert result.exit_code == 0, result.stderr
    assert {each["name"] for each in json.loads(result.stdout)["entries"]} >= {
        "condition number κ",
        "explained variance",
    }
    with Registry(tmp_path / "registry.db") as registry:
        (run,) = registry.runs()
        assert set(registry.opinions.of_weights(run.model_revision, "float32")) >= {"kappa", "alpha"}
        assert set(registry.opinions.of_run(run.id)) == {"eva", "influence"}


def test_what_another_method_says_races_beside_plop(place: Path, tmp_path: Path) -> None:
    from plop_cli.models.options import Loading
    from plop_cli.models.source import identify

    revision = identify(str(place / "small"), Loading()).revision
    types = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")
    values = [ModuleValue(f"layers.0.{name}", name, value) for value, name in enumerate(types, 1)]
    with Registry(tmp_path / "registry.db") as registry:
        of_all = [METHODS[key].opinion(values, seconds=0) for key in OF_WEIGHTS]
        registry.opinions.keep_of_weights(revision, "float32", of_all)
    words = ["--contestants", "plop,snr", "--rank", 2, "-f", "json"]
    result = race(place, *words, registry=tmp_path / "registry.db")
    assert result.exit_code == 0, result.stderr
    entries = {each["name"]: each["types"] for each in json.loads(result.stdout)["entries"]}
    assert entries["Spectrum's SNR"] == ["down_proj", "gate_proj", "up_proj"]


def test_quantized_weights_without_bitsandbytes_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plop_cli.errors.find_spec", lambda name: None if name == "bitsandbytes" else True)
    result = race(place, "--load-in", "4bit", registry=tmp_path / "registry.db")
    assert (result.exit_code, "needs bitsandbytes, which is not installed" in result.stderr) == (1, True)


def test_without_peft_one_line_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plop_cli.errors.find_spec", lambda name: None if name == "peft" else True)
    result = race(place)
    assert result.exit_code == 1
    assert "needs peft, which is not installed; pip install 'plop-cli[race]'" in result.stderr


def test_ctrl_c_says_that_the_race_goes_on(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plop_cli.racing.training import Trainer

    lap, count = Trainer.lap, iter(range(9))

    def interrupted(self: Trainer, *args: Any, **options: Any) -> Any:
        if next(count) == 2:
            raise KeyboardInterrupt
        return lap(self, *args, **options)

    monkeypatch.setattr(Trainer, "lap", interrupted)
    result = race(place, registry=tmp_path / "registry.db")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("note: stopped; finished laps are stored")
    with Registry(tmp_path / "registry.db") as registry:
        assert len(registry.races.all()[0].laps) == 2


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "question and answer": ({"question": "1+1=", "answer": "2"}, "2"),
    "prompt and completion": ({"prompt": "1+1=", "completion": "2"}, "2"),
    "instruction, input and output": ({"instruction": "Add.", "input": "1+1", "output": "2"}, "2"),
    "instruction without input": ({"instruction": "Add 1+1.", "input": "", "output": "2"}, "2"),
    "instruction and response": ({"instruction": "Add.", "context": "1+1", "response": "2"}, "2"),
    "messages": ({"messages": [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]}, "2;"),
    "from and value": ({"conversations": [{"from": "human", "value": "1+1="}, {"from": "gpt", "value": "2"}]}, "2;"),
    "several turns": (
        {
            "messages": [
                {"role": "user", "content": "1+1="},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "2+2="},
                {"role": "assistant", "content": "4"},
            ]
        },
        "2;4;",
    ),
    "text": ({"text": "1+1=2"}, "+1=2"),
}
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("form", ROWS)
def test_the_loss_is_on_the_answer_in_every_form_in_which_people_keep_data(form: str) -> None:
    from plop_cli.racing.examples import encode

    row, counted = ROWS[form]
    tokenizer = byte_tokenizer(eos_token="<pad>", chat_template=TEMPLATE)
    source = shaped([row] * 3, "rows")
    example = encode(tokenizer, source.texts[0])
    told = [token for token, counts in list(zip(example.ids, example.counts, strict=True))[1:] if counts]
    end = [] if form in ("messages", "from and value", "several turns") else [tokenizer.eos_token_id]
    assert told == [*tokenizer(counted)["input_ids"], *end]


def test_a_template_that_rewrites_what_was_said_is_refused() -> None:
    from plop_cli.racing.examples import encode

    template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer = byte_tokenizer(eos_token="<pad>", chat_template=template)
    with pytest.raises(PlopError, match="rewrites earlier turns"):
        encode(tokenizer, shaped([ROWS["several turns"][0]], "rows").texts[0])


def started(place: Path, registry: Path, *words: str, torchrun: int = 0) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(torchrun)] if torchrun else []
    command = [sys.executable, *launcher, "-m", "plop_cli", "race", str(place / "small"), "--data", "sums.jsonl"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*command, *QUICK, "--rates", "2e-3,4e-3", "--registry", str(registry), *words],
        cwd=place,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def laps_in(registry: Path) -> int:
    try:
        with sqlite3.connect(f"file:{registry}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM laps").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_a_race_that_is_killed_in_its_third_lap_and_resumed_gives_the_same_table(place: Path, tmp_path: Path) -> None:
    whole, _ = started(place, tmp_path / "whole.db").communicate(timeout=600)
    killed = started(place, tmp_path / "killed.db", "--steps", "4")
    while laps_in(tmp_path / "killed.db") < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    before = laps_in(tmp_path / "killed.db")
    resumed, said = started(place, tmp_path / "killed.db").communicate(timeout=600)
    assert 2 <= before < laps_in(tmp_path / "whole.db")
    assert (resumed, resumed.count("LoraConfig")) == (whole, 1), said
    with Registry(tmp_path / "killed.db") as registry:
        assert registry.check() == []


@pytest.mark.slow
def test_two_races_at_once_in_one_registry_are_those_of_two(place: Path, tmp_path: Path) -> None:
    alone, _ = started(place, tmp_path / "alone.db").communicate(timeout=600)
    both = [started(place, tmp_path / "both.db", "--batch", batch) for batch in ("4", "5")]
    tables = [each.communicate(timeout=600)[0] for each in both]
    assert tables[0] == alone
    assert tables[1].count("LoraConfig") == 1
    with Registry(tmp_path / "both.db") as registry:
        assert len(registry.races.all()) == 2


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(place: Path, tmp_path: Path) -> None:
    alone, _ = started(place, tmp_path / "alone.db").communicate(timeout=600)
    shared, said = started(place, tmp_path / "shared.db", torchrun=2).communicate(timeout=600)
    assert shared == alone, said
    with Registry(tmp_path / "alone.db") as one, Registry(tmp_path / "shared.db") as two:
        assert len(one.races.all()[0].laps) == len(two.races.all()[0].laps)


def test_answers_that_are_numbers_are_answers() -> None:
    for row in ({"question": "1+1=", "answer": 2}, {"question": "1=1?", "answer": True}):
        assert shaped([row] * 3, "rows").said == "question and answer"
    with pytest.raises(PlopError, match="which column"):  # a number beside choices counts them
        shaped([{"question": "1+1=", "choices": ["1", "2"], "answer": 1}], "rows")
