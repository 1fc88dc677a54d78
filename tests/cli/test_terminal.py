"""What commands print fits into 60, 80 and 120 columns, breaks no word, and is plain text where it is piped."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from plop_cli.cli.app import app
from plop_registry import Registry
from races import made_race
from small_models import byte_tokenizer, qwen2

LONG = "an-organisation-of-a-long-name/and-a-model-of-an-even-longer-name-instruct"
COMMANDS = {
    "score": "score model --task sample/math -n 4 --map",
    "score by module": "score model --task sample/math -n 4 --by module",
    "list modules": "score model --list-modules",
    "show": "show {run} --map",
    "show by layer": "show {run} --by layer",
    "show a race": "show {race}",
    "history": "history",
    "history of races": "history --kind race",
    "history of a query": "history --sql {sql}",
    "compare": "compare {run} {other}",
    "compare by task": "compare --by task --model model",
    "recommend": "recommend model --task sample/math -n 4",
    "check": "check adapter_config.json --model model --serve vllm",
    "tasks": "tasks",
    "registry status": "registry status",
    "rm": "rm {run} {race} --dry-run",
    "doctor": "doctor",
    "env": "env",
    "help": "score --help",
}
COPIED = ("plop score ", "  ", "config = ", "model = ", "from peft", "LoraConfig", ")", "registry:")
"""How lines begin that are to be copied as they are: commands, configs, what `plop env` says."""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Any]) -> Any:
    """The words of each command, in a folder with a model, a config and a registry of runs of long and short names."""
    folder = tmp_path_factory.mktemp("terminal")
    qwen2().save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    targets = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj", "v_prj"], "base_model_name_or_path": "model"}
    (folder / "adapter_config.json").write_text(json.dumps(targets))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PLOP_REGISTRY", "registry.db")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with Registry("registry.db") as registry:
            run = registry.add(*make_run(1, model_id=LONG, task_id="a-folder-of-texts/of-a-long-name.jsonl:messages"))
            other = registry.add(*make_run(2, model_label="checkpoint-1200", task_id="sample/code"))
            losses = {LONG: np.ones((2, 5)), "MLP": np.full((2, 5), 1.5), "diverges": np.full((2, 5), np.nan)}
            registry.races.add(made_race(losses))
            (race,) = registry.races.all()
        for task in ("sample/math", "sample/code"):
            done = CliRunner().invoke(app, ["score", "model", "--task", task, "-n", "4"])
            assert done.exit_code == 0, done.output
        names = {"run": run.id, "other": other.id, "race": race.id}
        sql = "SELECT id, model, task, samples, confidence FROM runs"
        yield {name: [word.format(**names, sql=sql) for word in words.split(" ")] for name, words in COMMANDS.items()}


def printed(words: list[str], width: int) -> str:
    """What a command writes into a pipe that is said to be so wide."""
    done = CliRunner().invoke(app, words, env={"COLUMNS": str(width)})
    assert done.exit_code in (0, 1), done.output
    assert done.stdout or done.stderr
    return done.stderr if "rm" in words else done.stdout  # what `rm` prints is for pipes: an id and a name a line


def words_of(text: str) -> set[str]:
    return {word.strip(",;:()│") for word in text.split() if not re.fullmatch(r"[━─╌┄·│╭╮╰╯┃▁▂▃▄▅▆▇█╸╺]+", word)}


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_it_fits_and_breaks_no_word(arguments: dict[str, list[str]], name: str, width: int) -> None:
    text = printed(arguments[name], width)
    assert "\x1b" not in text
    long = [line for line in text.splitlines() if cell_len(line) > width and not line.startswith(COPIED)]
    assert long == []
    assert re.findall(r"\d\.\d*…", text) == [], "a number is whole"
    if name in ("env", "help"):  # numbers that change, and typer's own table
        return
    whole = words_of(printed(arguments[name], 1000))
    endless = [word for word in whole if len(word) > width - 20]  # hashes and names that no line has room for
    broken = {word for word in words_of(text) - whole if "…" not in word}
    assert {word for word in broken if not any(word in each for each in endless)} == set()


@pytest.mark.parametrize(("set_to", "styled"), [("", True), ("1", False)])
def test_no_color_leaves_a_terminal_without_styles(
    arguments: dict[str, list[str]], set_to: str, styled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", set_to)
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = on_terminal(["show", *arguments["show"][1:]])
    assert "q_proj" in shown
    assert bool(re.search(r"\x1b\[[\d;]*m", shown)) == styled


def on_terminal(words: list[str]) -> str:
    """What a command writes onto a terminal, of which standard error is no part."""
    reader, writer = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "plop_cli", *words], stdout=writer, stderr=subprocess.PIPE, env={**os.environ}
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            block = os.read(reader, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(reader)
    assert done.wait() == 0, done.communicate()[1]
    return shown.decode()
