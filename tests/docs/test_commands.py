"""Every command that a page shows is one of plop's, and is run: page by page, in order, in a folder of its own.

In that folder are ./my-model, ./my-lora (an adapter of it), run/checkpoint-100 and -200, adapter_config.json,
train.jsonl, test.jsonl (questions and answers) and prompts.txt. The registry knows `demo` on the sample tasks, but for
a tutorial, which begins with nothing. Fewer and shorter texts are scored than would be by default.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import shown
from plop_cli.cli.app import app
from small_models import byte_tokenizer, qwen2

BLOCKS = {page: [*shown.blocks(page)] for page in shown.PAGES}
SMALL = {
    "PLOP_SAMPLES": "8",
    "PLOP_MAX_LENGTH": "64",
    "PLOP_STEPS": "2",
    "PLOP_BATCH": "1",
    "PLOP_TESTED": "4",
    "PLOP_RATES": "1e-3",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


def parse(words: list[str]) -> None:
    """Raises where plop has no such command, or the command no such option."""
    command: Any = get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context("plop", [], resilient_parsing=True)
    context.resilient_parsing = False
    command.make_parser(context).parse_args([*words])


@pytest.mark.parametrize("page", [page for page, some in BLOCKS.items() if some])
def test_every_command_on_a_page_is_one_and_has_its_options(page: str) -> None:
    for block in BLOCKS[page]:
        for command in block.commands:
            for words in shown.of_plop(command) if "<<" not in command else ():
                try:
                    parse(words)
                except Exception as error:
                    raise AssertionError(f"{block.place}: {command}") from error


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of, made small."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("docs")
    for name in ("my-model", "run/checkpoint-100", "run/checkpoint-200"):
        model = qwen2()
        if name.endswith("200"):
            model.model.layers[0].mlp.up_proj.weight.data *= 2
        model.save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    lora = get_peft_model(
        qwen2().from_pretrained(folder / "my-model"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    lora.peft_config["default"].base_model_name_or_path = str(folder / "my-model")
    lora.save_pretrained(folder / "my-lora")
    shutil.copy(folder / "my-lora/adapter_config.json", folder)
    for name in ("train", "test"):
        rows = ({"question": f"What is {n} + {len(name)}?", "answer": f"It is {n + len(name)}."} for n in range(40))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "prompts.txt").write_text("".join(f"Tell me of {n}.\n" for n in range(40)))
    return folder


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that has `demo` on the sample tasks."""
    file = tmp_path_factory.mktemp("known") / "registry.db"
    tasks = [word for task in ("math", "code", "history", "logic") for word in ("--task", f"sample/{task}")]
    done = CliRunner().invoke(app, ["score", "demo", *tasks, "--registry", str(file)], env=SMALL)
    assert done.exit_code == 0, done.output
    return file


def run(command: str, folder: Path) -> tuple[int, str]:
    """How a command ends and what it says; here where it is plop's alone, else in a shell."""
    words = shown.plain_words(command)
    if words and words[0] == "plop":
        done = CliRunner().invoke(app, words[1:])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return shell.returncode, shell.stdout + shell.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, some in BLOCKS.items() if not all(each.not_run for each in some)])
def test_every_command_on_a_page_does_what_it_is_shown_for(
    page: str, world: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(world, tmp_path / "here")
    if not page.startswith("docs/tutorials/"):
        shutil.copy(known, tmp_path / "registry.db")
    for name, value in {**SMALL, "PLOP_REGISTRY": str(tmp_path / "registry.db")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    for block in BLOCKS[page]:
        for number, command in enumerate(block.commands if not block.not_run else (), 1):
            ended, said = run(command, folder)
            wanted = block.exit if number == len(block.commands) else 0
            assert ended == wanted, f"{block.place}: {command}\nexit {ended}\n{said}"


def test_what_is_not_run_says_why() -> None:
    reasons = [block.not_run for some in BLOCKS.values() for block in some if block.not_run]
    assert all(len(reason.split()) > 2 for reason in reasons)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plop a\nplop b  # why\n# nothing\n", ["plop a", "plop b  # why"]),
        ("$ plop a\n4 runs\n$ plop b \\\n>   --c\n", ["plop a", "plop b \\\n  --c"]),
        ('plop history --sql "SELECT 1\n  AS one"\nplop b', ['plop history --sql "SELECT 1\n  AS one"', "plop b"]),
        ("cat > a.toml <<'END'\nx = 1\nEND\nplop a", ["cat > a.toml <<'END'\nx = 1\nEND", "plop a"]),
    ],
)
def test_commands_are_read_as_people_type_them(text: str, found: list[str]) -> None:
    assert [*shown.commands(text)] == found


@pytest.mark.parametrize(
    ("command", "plain", "of_plop"),
    [
        ("plop show latest # one", ["plop", "show", "latest"], [["show", "latest"]]),
        ("plop show 'a*' --by layer", ["plop", "show", "a*", "--by", "layer"], [["show", "a*", "--by", "layer"]]),
        ("plop score run/* -t a", None, [["score", "run/*", "-t", "a"]]),
        ("cat a | plop score b -t - > c && plop rm d", None, [["score", "b", "-t", "-"], ["rm", "d"]]),
        ("A=1 plop env", None, [["env"]]),
    ],
)
def test_a_shell_is_used_where_one_is_needed(command: str, plain: Any, of_plop: list[list[str]]) -> None:
    assert (shown.plain_words(command), [*shown.of_plop(command)]) == (plain, of_plop)
