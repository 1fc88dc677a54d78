"""`plop score` as a user sees it: what it prints, what it keeps, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fake_hub import COMMIT, hub
from plop_cli import __version__
from plop_cli.cli.app import app
from plop_cli.runs import grid
from plop_registry import Registry
from small_models import byte_tokenizer, qwen2

PLOP = [sys.executable, "-m", "plop_cli"]
Plop = Callable[..., Result]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2 in a folder of the run `tuned`: checkpoint-20."""
    folder = tmp_path_factory.mktemp("score") / "tuned" / "checkpoint-20"
    model = qwen2()
    model.config.max_position_embeddings = 1024
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "data" / "registry.db"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data" / "registry.db"


@pytest.fixture
def plop(registry: Path) -> Plop:
    """`plop ARGUMENTS...`, in this process."""
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def texts(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return texts(tmp_path / "words.txt", "one two three", "four five six seven", "eight")


def test_a_score_is_printed_lowest_first_and_kept(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    result = plop("score", tiny, "--task", words)
    assert result.exit_code == 0
    with Registry(registry) as store:
        (run,) = store.runs(modules=True)
        matrix = store.matrix(run.id)
    rows = [line for line in result.stdout.splitlines() if "━" in line]
    assert [score.type in row for score, row in zip(run.types, rows, strict=True)] == [True] * 7
    assert ["●" in row for row in rows] == [True] * 3 + [False] * 4, "the 3 lowest of 7"
    assert [score.nfn for score in run.types] == sorted(score.nfn for score in run.types)
    assert (run.model_id, run.model_label, run.task_id) == ("tuned", "checkpoint-20", "words.txt")
    assert len(run.modules) == 21 == matrix.sums.shape[1]
    assert "words.txt has 3 texts" in result.stderr


def test_the_same_question_again_is_answered_from_the_registry(plop: Plop, tiny: Path, words: Path) -> None:
    first = json.loads(plop("score", tiny, "--task", words, "--json").stdout)
    again = plop("score", tiny, "--task", words, "--json")
    assert json.loads(again.stdout) == first | {"cached": True}
    assert "answered from the registry" in again.stderr
    forced = json.loads(plop("score", tiny, "--task", words, "--json", "--force").stdout)
    assert forced["run_id"] != first["run_id"]
    assert forced["modules"] == first["modules"], "the same command gives the same digits"


@pytest.mark.parametrize("task", ["sample/math", "org/sums"])
def test_a_hit_imports_neither_torch_nor_transformers(
    tiny: Path, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    command = ["score", str(tiny), "--task", task, "-n", "2"]
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums/train.jsonl").write_text("".join(f'{{"text": "{n} and {n} are {n + n}"}}\n' for n in range(20)))
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    probe = (
        f"import sys; from typer.testing import CliRunner; from plop_cli.cli.app import app;"
        f"result = CliRunner().invoke(app, {command!r});"
        "assert result.exit_code == 0 and 'from the registry' in result.stderr, result.output;"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    with hub(tmp_path / "sums", "org/sums", kind="datasets") as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        subprocess.run([*PLOP, *command], check=True, capture_output=True)
        done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("changed", [["--max-length", "12"], ["--dtype", "bfloat16"], ["--seed", "1"], ["-n", "2"]])
def test_what_can_change_a_digit_is_another_run(plop: Plop, tiny: Path, words: Path, changed: list[str]) -> None:
    first = json.loads(plop("score", tiny, "--task", words, "--json").stdout)
    other = json.loads(plop("score", tiny, "--task", words, "--json", *changed).stdout)
    assert not other["cached"]
    assert other["key"] != first["key"]


def test_how_it_is_batched_is_the_same_run(plop: Plop, tiny: Path, words: Path) -> None:
    plop("score", tiny, "--task", words)
    assert json.loads(plop("score", tiny, "--task", words, "--json", "--batch-tokens", "16").stdout)["cached"]


def test_in_a_grid_a_failed_cell_does_not_lose_the_others(
    plop: Plop, tiny: Path, words: Path, tmp_path: Path, registry: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    result = plop("score", broken, tiny, "--task", words, "--task", "sample/mth", "--json")
    assert result.exit_code == 1
    assert [run["task"]["id"] for run in json.loads(result.stdout)] == ["words.txt"]
    assert "did you mean 'sample/math'?" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("plop: 3 of 4 failed: ")
    with Registry(registry) as store:
        assert len(store.runs()) == 1


@pytest.mark.parametrize("by", ["layer", "module"])
def test_rows_can_be_layers_or_modules(plop: Plop, tiny: Path, words: Path, by: str) -> None:
    result = plop("score", tiny, "--task", words, "--by", by)
    assert result.exit_code == 0
    assert result.stdout.count("q_proj") == (3 if by == "module" else result.stdout.count("q_proj"))


def test_the_map_tells_every_value_in_digits(plop: Plop, tiny: Path, words: Path) -> None:
    shown = plop("score", tiny, "--task", words, "--map").stdout
    run = json.loads(plop("score", tiny, "--task", words, "--json").stdout)
    for module in run["modules"]:
        row = next(line for line in shown.splitlines() if line.strip().startswith(f"{module['layer']} "))
        assert f"{module['nfn']:.2f}" in row


def test_list_modules_shows_types_and_reasons_without_weights(plop: Plop, tiny: Path, registry: Path) -> None:
    result = plop("score", tiny, "--list-modules", "--json")
    listed = json.loads(result.stdout)
    assert {module["type"] for module in listed["modules"]} == {
        *(f"{letter}_proj" for letter in "qkvo"), "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert {"name": "lm_head", "reason": "the output head: its product is not computed"} in listed["skipped"]
    assert "the output head" in " ".join(plop("score", tiny, "--list-modules").stdout.split())
    assert not registry.exists()


def test_chat_needs_a_template(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    result = plop("score", tiny, "--task", words, "--chat")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the tokenizer has no chat template" in result.stderr


def test_texts_that_are_cut_are_said(plop: Plop, tiny: Path, words: Path) -> None:
    assert "2 of 3 texts were cut at 6 tokens" in plop("score", tiny, "--task", words, "--max-length", "6").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere/", "--task", "sample/math", "-n", "2"], 1, "no model at 'nowhere/'"),
        (["{tiny}", "--task", "mathh"], 1, "did you mean 'math'?"),
        (["{tiny}", "--task", "sample/math", "--samples", "0"], 1, "--samples is 0; give at least 1"),
        (["{tiny}", "--task", "sample/math", "-n", "2", "--max-length", "0"], 1, "max_length is 0"),
        (["{tiny}", "--task", "sample/math", "-n", "2", "--max-length", "5000"], 1, "1024 positions"),
        (["{tiny}", "--task", "sample/math", "-n", "2", "--device", "cuda:9"], 1, "no device 'cuda:9' here"),
        (["{tiny}", "--task", "sample/math", "--dtype", "int3"], 2, "--dtype"),
        (["{tiny}"], 2, "--task"),
        ([], 2, "MODEL"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_the_registry_alone(
    plop: Plop, tiny: Path, registry: Path, arguments: list[str], code: int, said: str
) -> None:
    result = plop("score", *(argument.format(tiny=tiny) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert code == 2 or len(result.stderr.splitlines()) == 1
    if registry.exists():  # made ready to be written, before the work that then failed
        with Registry(registry) as store:
            assert store.runs() == []


def test_a_registry_that_cannot_be_written_is_said_before_any_work(plop: Plop, tiny: Path, words: Path) -> None:
    result = plop("score", tiny, "--task", words, "--registry", words / "registry.db")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 2  # the note on the short file, and this
    assert str(words / "registry.db") in result.stderr


def test_a_registry_of_a_newer_version_is_refused(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    import sqlite3

    plop("score", tiny, "--task", words)
    with sqlite3.connect(registry) as connection:
        connection.execute("update plop_schema set version_num = '9999'")
    result = plop("score", tiny, "--task", words, "-n", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "newer" in result.stderr


def test_a_hub_that_does_not_answer_is_given_up_within_20_seconds(registry: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        result = subprocess.run(
            [*PLOP, "score", "org/name", "--task", "sample/math"],
            env={**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{mute.getsockname()[1]}", "HF_HOME": str(registry)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert time.monotonic() - started < 20
    assert (result.returncode, result.stdout) == (1, "")
    assert "the hub cannot be reached" in result.stderr
    assert "sample/math" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_from_a_hub_is_pinned_to_its_commit_and_found_again_without_it(
    tiny: Path, registry: Path, tmp_path: Path
) -> None:
    def score(endpoint: str, task: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PLOP, "score", "org/tiny@main", "--task", task, "-n", "2", "--json"],
            env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
        )

    with hub(tiny) as endpoint:
        online = score(endpoint, "sample/math")
        assert online.returncode == 0, online.stderr
        assert json.loads(online.stdout)["model"] | {"architecture": "", "dtype": ""} == {
            "id": "org/tiny", "revision": COMMIT, "label": "main", "architecture": "", "dtype": ""
        }  # fmt: skip
    offline = score(endpoint, "sample/code")
    assert offline.returncode == 0, offline.stderr
    assert json.loads(offline.stdout)["model"] == json.loads(online.stdout)["model"]


def test_ctrl_c_stores_nothing_and_exits_130(tiny: Path, registry: Path) -> None:
    process = subprocess.Popen(
        [*PLOP, "score", str(tiny), "--task", "-", "-n", "5000", "--batch-tokens", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write("a long text to be scored in its own batch\n" * 5000)
    process.stdin.close()
    process.stdin = None
    while not registry.exists():  # it is made ready when the pass begins
        assert process.poll() is None, "ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors
    with Registry(registry) as store:
        assert store.runs() == []
        assert store.check() == []


def test_help_says_what_every_option_does(plop: Plop) -> None:
    for command in ([], ["score"], ["tasks"]):
        assert plop(*command, "--help").exit_code == 0
    assert plop("--version").stdout == f"plop {__version__}\n"
    assert "sample/history" in plop("tasks").stdout


TALKS = [
    {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "three"}]},
]
STRICT = "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
STRICT += "<{{ turn.role }}>{{ turn.content }}{% endfor %}"


@pytest.fixture
def talking(tiny: Path, tmp_path: Path) -> Path:
    """The small Qwen2 with a chat template that takes no system turn."""
    folder = tmp_path / "talking"
    shutil.copytree(tiny, folder)
    byte_tokenizer(chat_template=STRICT).save_pretrained(folder)
    return folder


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    return texts(tmp_path / "talks.jsonl", *map(json.dumps, TALKS))


def test_a_conversation_that_the_template_refuses_is_named_and_the_other_cells_go_on(
    plop: Plop, tiny: Path, talking: Path, talks: Path, words: Path
) -> None:
    result = plop("score", talking, "--task", talks, "--task", words, "--json")
    assert result.exit_code == 1
    assert [run["task"]["id"] for run in json.loads(result.stdout)] == ["words.txt"]
    assert "talks.jsonl, row 2: the chat template refuses it (no system turns) (--skip-bad" in result.stderr
    assert "1 of 2 failed" in result.stderr


def test_skip_bad_passes_over_refused_conversations_and_is_answered_from_the_registry(
    plop: Plop, talking: Path, talks: Path
) -> None:
    first = plop("score", talking, "--task", talks, "--skip-bad", "--json")
    assert first.exit_code == 0
    assert "1 of 2 texts were passed over (--skip-bad)" in first.stderr
    again = plop("score", talking, "--task", talks, "--skip-bad", "--json")
    assert json.loads(again.stdout) == json.loads(first.stdout) | {"cached": True}
    assert plop("score", talking, "--task", talks).exit_code == 1, "without it they are an error, as before"


def test_skip_bad_without_bad_rows_is_the_same_run(plop: Plop, tiny: Path, words: Path) -> None:
    plop("score", tiny, "--task", words)
    assert json.loads(plop("score", tiny, "--task", words, "--skip-bad", "--json").stdout)["cached"]


def test_answers_alone_are_another_run(plop: Plop, tiny: Path, tmp_path: Path) -> None:
    pairs = texts(tmp_path / "pairs.jsonl", json.dumps({"prompt": "What is 2 + 2? ", "completion": "It is 4."}))
    whole = json.loads(plop("score", tiny, "--task", pairs, "--json").stdout)
    answers = json.loads(plop("score", tiny, "--task", pairs, "--on", "answers", "--json").stdout)
    assert (whole["task"]["tokens"], answers["task"]["tokens"]) == (23, 8)
    assert answers["settings"] == whole["settings"] | {"on": "answers"}
    assert json.loads(plop("score", tiny, "--task", pairs, "--on", "answers", "--json").stdout)["cached"]


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("y"), RecursionError(), OverflowError("z"), MemoryError()])
def test_no_error_of_whatever_class_stops_another_cell(
    plop: Plop, tiny: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A bug in one cell is told; alone it keeps its traceback."""
    other = texts(tmp_path / "other.txt", "nine ten")
    whole = grid._score_one

    def failing(job: Any, *arguments: Any) -> Any:
        if job.task.id == "other.txt":
            raise error
        return whole(job, *arguments)

    monkeypatch.setattr(grid, "_score_one", failing)
    result = plop("score", tiny, "--task", other, "--task", words, "--json")
    assert [run["task"]["id"] for run in json.loads(result.stdout)] == ["words.txt"]
    assert f"other.txt: {type(error).__name__}" in result.stderr
    with pytest.raises(type(error)):
        plop("score", tiny, "--task", other)


def test_a_template_between_quotes_means_its_newlines_and_tabs(plop: Plop, tiny: Path, tmp_path: Path) -> None:
    file = texts(tmp_path / "t.jsonl", json.dumps({"a": "one", "b": "two"}))
    quoted = json.loads(plop("score", tiny, "--task", file, "--template", r"{a}\n\t{b}\\", "--json").stdout)
    assert quoted["task"]["id"] == "t.jsonl:{a}\n\t{b}\\"
    real = json.loads(plop("score", tiny, "--task", file, "--template", "{a}\n\t{b}\\", "--json").stdout)
    assert real["cached"]


@pytest.mark.parametrize("option", ["--samples", "--seed", "--max-length", "--batch-tokens"])
def test_numbers_beyond_all_bounds_are_usage_errors(plop: Plop, tiny: Path, words: Path, option: str) -> None:
    assert plop("score", tiny, "--task", words, option, "9" * 23).exit_code == 2
