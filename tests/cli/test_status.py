"""The line that says what is being done: on a real terminal, gone before anything else is said, and nowhere else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plop_cli.progress import watched
from plop_cli.runs.grid import score_grid
from plop_cli.runs.jobs import Request
from plop_registry import Registry
from small_models import byte_tokenizer, qwen2

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
CLEAR = "\r\x1b[2K"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("status")
    qwen2().save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    options = ["--task", "sample/math", "-n", "4", "--registry", str(folder / "registry.db"), "--rescore"]
    return [sys.executable, "-m", "plop_cli", "score", str(folder / "model"), *options]


def on_terminal(
    command: list[str], said: Callable[[int, str], None] = lambda pid, seen: None, **environment: str
) -> str:
    """What a command writes onto a terminal of 100 columns; `said` is told its process and all of that so far."""
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe(command[0], command, {**os.environ, "COLUMNS": "100", "TERM": "xterm", **environment})
    seen = ""
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:  # the process has ended
            break
        if not block:
            break
        seen += block.decode(errors="replace")
        said(pid, seen)
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen


def shown(written: str) -> list[str]:
    """The lines that are left on the terminal."""
    return [line.rpartition(CLEAR)[2].rstrip() for line in written.replace("\r\n", "\n").split("\n")]


def test_it_moves_while_libraries_are_imported_and_leaves_nothing_behind(command: list[str]) -> None:
    written = on_terminal(command)
    frames = [drawn[0] for drawn in written.split(CLEAR) if "importing torch and transformers" in drawn]
    assert len(set(frames)) > 3
    assert not any(line.startswith(tuple(SPINNER)) for line in shown(written))
    assert "\x1b[?25l" not in written, "no cursor is hidden"


def test_every_step_is_told_in_its_order(command: list[str], tmp_path: Path) -> None:
    told: list[tuple[str, int, int, str]] = []
    with Registry(tmp_path / "registry.db") as registry, watched(lambda *step: told.append(step)):
        (cell,) = score_grid([command[4]], ["sample/math"], Request(samples=4), registry)
    assert cell.run
    steps = list(dict.fromkeys(step.split()[0] for step, *_ in told))
    assert steps == ["reading", "finding", "importing", "loading", "tokenizing", "probing", "scoring"]
    *_, last = (step for step in told if step[0].startswith("scoring "))
    assert last[1:] == (cell.run.tokens, cell.run.tokens, "tokens")


def test_nothing_of_it_where_stderr_is_no_terminal(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "FORCE_COLOR": "1"}, check=True)
    assert CLEAR not in done.stdout + done.stderr
    assert "starting" not in done.stderr


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_nothing_of_it_on_a_dumb_terminal_and_in_other_processes(environment: dict[str, str]) -> None:
    written = on_terminal([sys.executable, "-c", HELD], **environment)
    assert written.strip() == "done"


HELD = """
import time
from plop_cli.cli.status import status_line
from plop_cli.progress import says
with status_line():
    says("waiting")
    time.sleep(0.5)
print("done")
"""


def test_ctrl_c_takes_it_off(command: list[str]) -> None:
    sent = []

    def interrupt(pid: int, seen: str) -> None:
        if "importing" in seen and not sent:
            sent.append(os.kill(pid, signal.SIGINT))

    written = on_terminal(command, interrupt)
    assert sent
    assert not any(shown(written))


def test_it_stays_away_from_a_question() -> None:
    probe = """
import time, typer
from plop_cli.cli import streams
from plop_cli.cli.status import status_line
from plop_cli.progress import says
streams.prepare()
with status_line():
    says("working")
    time.sleep(0.3)
    typer.echo("remove it? ", nl=False)
    time.sleep(0.5)
    typer.echo("no")
    time.sleep(0.3)
"""
    written = on_terminal([sys.executable, "-c", probe])
    assert "remove it? no" in written
    assert written.count("working") > 2
    assert shown(written) == ["remove it? no", ""]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (("hashing a", 1_500_000_000, 4_000_000_000, "bytes"), r"hashing a: 1\.5 of 4\.0 GB"),
        (("scoring a", 1_234, 5_000, "tokens"), r"scoring a: 1,234 of 5,000 tokens"),
        (("a\x1b[31mb", 0, 0, ""), r"a\\x1b\[31mb"),
        (("x" * 300, 0, 0, ""), r"x{96}…"),
    ],
)
def test_amounts_are_shown_and_nothing_is_obeyed(told: tuple[object, ...], line: str) -> None:
    probe = HELD.replace('says("waiting")', f"says(*{told!r})")
    written = on_terminal([sys.executable, "-c", probe])
    assert re.search(rf"{re.escape(CLEAR)}. {line}\r", written)


def test_speed_and_time_left_are_told() -> None:
    told = "says('a', 0, 1000, 'tokens'); time.sleep(0.1); says('a', 10, 1000, 'tokens')"
    written = on_terminal([sys.executable, "-c", HELD.replace('says("waiting")', told)])
    assert re.search(r"a: 10 of 1,000 tokens, \d+ tokens/s, \d+ seconds left", written)
