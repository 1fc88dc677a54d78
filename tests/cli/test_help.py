"""`--help` in panels, commands in the order of use, and `--quiet` everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from plop_cli.cli.app import app
from plop_cli.cli.console import is_quiet, note, quietly, warn
from plop_cli.cli.panels import PANELS
from plop_cli.progress import says, watched
from plop_registry import Registry


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_stands_in_a_panel_and_the_panels_in_their_order(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = CliRunner().invoke(app, [*words, "--help"]).stdout
    options = [param for param in COMMANDS[words].params if param.param_type_name == "option"]
    assert {option.rich_help_panel for option in options} <= set(PANELS)
    titles = [title for title in re.findall(r"^╭─ (.*?) ─", shown, re.MULTILINE) if title != "Arguments"]
    assert titles == [panel for panel in PANELS if panel in titles]
    assert titles[-1] == "Output"
    assert re.findall(r"^│ +(--[\w-]+)", shown, re.MULTILINE)[-2:] == ["--quiet", "--help"]


def test_commands_are_listed_in_the_order_of_use() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert re.findall(r"^╭─ (.*?) ─", shown, re.MULTILINE) == [
        *("Options", "Where adapters go", "What was scored", "plop itself")
    ]
    named = re.findall(r"^│ ([a-z]+) ", shown, re.MULTILINE)
    assert named[:4] == ["score", "recommend", "check", "race"]
    assert set(named) == {words[0] for words in COMMANDS}


def test_inside_quietly_warnings_are_said_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with watched(lambda what, *_: told.append(what)):
        with quietly():
            says("hashing")
            note("a hint")
            warn("a doubt")
            assert is_quiet()
        says("scoring")
        note("another")
    assert told == ["scoring"]
    assert capsys.readouterr().err == "warning: a doubt\nnote: another\n"


@pytest.mark.parametrize("set_by", ["--quiet", "-q", "$PLOP_QUIET", "plop.toml"])
def test_quiet_silences_notes_and_leaves_results(
    set_by: str, tmp_path: Path, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLOP_REGISTRY", "registry.db")
    with Registry("registry.db") as registry:
        for seed in range(2):
            registry.add(*make_run(seed))
    loud = CliRunner().invoke(app, ["history", "-n", "1"])
    assert loud.stderr == "note: older runs are not shown (--limit 1)\n"
    if set_by == "plop.toml":
        Path("plop.toml").write_text("quiet = true\n")
    elif set_by == "$PLOP_QUIET":
        monkeypatch.setenv("PLOP_QUIET", "1")
    words = [set_by] if set_by.startswith("-") else []
    quiet = CliRunner().invoke(app, ["history", "-n", "1", *words])
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, loud.stdout, "")
    exported = CliRunner().invoke(app, ["export", "-o", "runs.jsonl", *words])
    assert (exported.exit_code, exported.output) == (0, "")
    assert Path("runs.jsonl").read_text().count("\n") == 2
    assert "no run" in CliRunner().invoke(app, ["show", "zzzz", *words]).stderr
