"""Settings that stay: where they come from, which wins, what they may not say, and how a mistake in them is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_registry import Registry

Plop = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., Any]) -> Path:
    """A folder whose subfolder is the current one, a user's folder beside it, and a registry of three runs."""
    for name in [name for name in os.environ if name.startswith("PLOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "project/deep").mkdir(parents=True)
    (tmp_path / "config/plop").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project/deep")
    with Registry() as registry:
        for seed in range(3):
            registry.add(*make_run(seed))
    return tmp_path / "project"


def plop(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def listed(*arguments: str) -> int:
    """How many runs `plop history` lists as JSON lines."""
    done = plop("history", "-f", "jsonl", *arguments)
    assert done.exit_code == 0, done.stderr
    return len(done.stdout.splitlines())


def test_the_command_line_wins_over_the_environment_the_project_and_the_user(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed() == 3
    (project.parent / "config/plop/plop.toml").write_text("[history]\nlimit = 1\n")
    assert listed() == 1
    (project / "pyproject.toml").write_text("[tool.plop]\nlimit = 2\n")
    assert listed() == 1 + 1
    (project / "plop.toml").write_text("limit = 1\n")
    assert listed() == 1
    (project / "deep/plop.toml").write_text("[history]\nlimit = 2\n")
    assert listed() == 2
    monkeypatch.setenv("PLOP_LIMIT", "3")
    assert listed() == 3
    assert listed("-n", "1") == 1


def test_env_says_which_value_came_from_where_and_no_secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "plop.toml").write_text(
        'max-length = 64\n[score]\nsamples = 8\ndevice = "https://me:word@host/a?b=word"'
    )
    monkeypatch.setenv("PLOP_SEED", "7")
    monkeypatch.setenv("HF_TOKEN", "hf_word")
    monkeypatch.setenv("PLOP_REGISTRY", "postgresql://me:word@127.0.0.1:1/none?passwort=word")
    done = plop("env", "--json")
    assert done.exit_code == 0
    assert "word" not in done.stdout + plop("env").stdout.replace("passwort", "")
    settings = json.loads(done.stdout)["settings"]
    assert settings["score.samples"] == {"value": "8", "from": str(project / "plop.toml")}
    assert settings["race.max_length"]["value"] == "64"
    assert settings["recommend.seed"] == {"value": "7", "from": "$PLOP_SEED"}
    assert "recommend.samples" not in settings
    (project / "plop.toml").write_text("samples = ")
    assert "line 1, column 11" in plop("env").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smaples = 3", "smaples is no setting; did you mean samples?"),
        ("[histroy]\nlimit = 1", "did you mean history?"),
        ("[history]\nsamples = 1", "samples is no setting"),
        ("[history.more]\na = 1", "more is no setting"),
        ("score = 3", "score is a command; write its options below [score]"),
        ("samples = ", "no TOML: Invalid value (at line 1, column 11)"),
        ("a = 1\nb 2\n", "at line 2, column 3"),
        ("a = 1\na = 2\n", "line 2"),
        ("a = " + "[" * 5000, "no TOML"),
        ("#" * 2**21, "larger than 1 MiB"),
        ("samples = true", "samples is true; give a text or a number"),
        ("samples = [1]", "samples takes one value, not a list"),
        ("samples = {a = 1}", "give a text or a number"),
        ("samples = 2026-01-01", "give a text or a number"),
        ("chat = 1", "chat is 1; give true or false"),
        ('chat = "yes"', "give true or false"),
        ("limit = 0", "0 is not from 1"),
        ("limit = 1.5", "'1.5' is no whole number"),
        ('[history]\nformat = "xml"', 'format is "xml"; give one of table, json, jsonl, csv, md'),
        ('[history]\nformat = "peft"', "give one of table"),
        ('format = "xml"', 'format is "xml"; give one of table'),
        ('name = "a"\nsince = "yesterday"', "since is no setting for all commands; write it into the table"),
        ("trust_remote_code = true", "not for a project's file"),
        ("[score]\nallow-pickle = true", "not for a project's file"),
        ('registry = "postgresql://elsewhere/a"', "not for a project's file"),
        ("[report]\noverwrite = true", "not for a project's file"),
        ('[rm]\nmodel = "*"', "model is no setting for all commands"),
        ("[rm]\nyes = true", "yes is no setting"),
    ],
)
def test_a_mistake_is_told_with_its_file(project: Path, text: str, said: str) -> None:
    (project / "plop.toml").write_text(text)
    done = plop("history")
    words = " ".join(done.stderr.replace("│", " ").split())
    assert done.exit_code in (1, 2)
    assert said in words
    assert "plop.toml" in words
    assert done.stdout == ""
    assert plop("history", "--help").exit_code == 0


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("PLOP_SAMPELS", "SAMPLES"),
        ("PLOP_MAX_LENGHT", "MAX_LENGTH"),
        ("PLOP_SEEED", "SEED"),
        ("PLOP_REGISTY", "REGISTRY"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "7")
    done = plop("history")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"${name} is no setting; did you mean $PLOP_{near}?" in done.stderr
    assert name in json.loads(plop("env", "--json").stdout)["settings"]["error"]
    assert plop("history", "--help").exit_code == 0
    monkeypatch.setenv(name, "")
    assert listed() == 3


@pytest.mark.parametrize("name", ["PLOP_FREEZE", "PLOP_GOLDEN", "PLOP_EVIDENCE", "PLOP_COMPLETE", "PLOP_HOME", "PLOP_"])
def test_a_variable_that_is_like_no_setting_is_passed_over(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    assert listed() == 3


def test_what_is_no_text_or_cannot_be_read_is_told(project: Path) -> None:
    (project / "plop.toml").write_bytes(b"limit = 1\nformat = '\xff'\n")
    assert "no UTF-8 at line 2" in plop("history").stderr
    (project / "plop.toml").unlink()
    (project / "plop.toml").mkdir()
    assert listed() == 3
    os.mkfifo(project / "deep/plop.toml")
    assert listed() == 3


def test_the_user_may_say_what_a_project_may_not(project: Path) -> None:
    other = project.parent / "other.db"
    mine = project.parent / "config/plop/plop.toml"
    mine.write_text(f"registry = {str(other)!r}\ntrust_remote_code = true\n")
    assert listed() == 3  # $PLOP_REGISTRY wins
    del os.environ["PLOP_REGISTRY"]
    assert listed() == 0


@pytest.mark.parametrize("text", ["x = \n[tool.other]\n", "[tool.other]\nplop = 1\n", "[tool]\nplop = 1\n", ""])
def test_a_pyproject_that_says_nothing_of_plop_is_passed_over(project: Path, text: str) -> None:
    (project / "plop.toml").write_text("limit = 2\n")
    (project / "deep/pyproject.toml").write_text(text)
    assert listed() == 2


def test_a_filter_is_for_the_command_whose_table_has_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "plop.toml").write_text('task = "nothing"\n')  # what `plop score` is to score on
    monkeypatch.setenv("PLOP_MODEL", "nothing")
    assert listed() == 3
    (project / "plop.toml").write_text('[history]\ntask = "nothing"\n')
    assert "no run fits --task nothing" in plop("history").stderr
    assert listed("--task", "gsm8k") == 3


def test_a_choice_for_all_commands_is_for_those_that_have_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> tuple[str, str]:
        """How `plop history` begins, and what `plop report` writes."""
        (listing, report) = (plop("history"), plop("report", "--overwrite"))
        assert listing.exit_code == report.exit_code == 0, listing.stderr + report.stderr
        return listing.stdout.strip().partition("\n")[0], report.stdout.strip()

    plain = printed()
    (project / "plop.toml").write_text('format = "csv"\n')
    csv = printed()
    assert csv[0].startswith("run_id,")
    assert csv[1] == plain[1] == "report.html"
    (project / "plop.toml").write_text('format = "html"\n')
    assert printed() == plain
    monkeypatch.setenv("PLOP_FORMAT", "csv")
    assert printed() == csv
    monkeypatch.setenv("PLOP_FORMAT", "xml")
    assert '$PLOP_FORMAT is "xml"; give one of table' in plop("history").stderr.replace("\n", " ")
