"""The tab key: what a shell is offered, in the shells' own protocol and in a real bash, zsh and fish."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from plop_registry import Registry

SCRIPT = Path(sys.executable).with_name("plop")


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Any]) -> tuple[Path, list[str]]:
    path = tmp_path_factory.mktemp("completion") / "registry.db"
    with Registry(path) as registry:
        runs = [registry.add(*make_run(seed, model_id=f"org/m{seed}", task_id="file:/a b.txt")) for seed in range(3)]
        registry.describe([runs[0].id], name="start")
    return path, [run.id for run in runs]


def offered(registry: Path | str, line: str, **environment: str) -> list[str]:
    """What bash would be offered for the last word of a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_PLOP_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "PLOP_REGISTRY": str(registry), **words, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


def test_runs_models_tasks_and_commands_are_offered(ids: tuple[Path, list[str]]) -> None:
    path, runs = ids
    assert set(offered(path, "plop show ")) == {"latest", "start", *runs}
    assert offered(path, f"plop rm {runs[1][:9]}") == [runs[1]]
    assert offered(path, "plop compare latest sta") == ["start"]
    assert offered(path, "plop score org/") == ["org/m0", "org/m1", "org/m2"]
    assert offered(path, "plop history --model org/m1") == ["org/m1"]
    assert offered(path, "plop score demo --task sample/m") == ["sample/math"]
    assert offered(path, "plop score demo --task file") == ["file:/a b.txt"]
    assert offered(path, "plop hist") == ["history"]


@pytest.mark.parametrize(
    "line", ["plop show zz", "plop show %", "plop show a;b", "plop show \U0001f600", "plop score no/such", "plop zz"]
)
def test_what_nothing_begins_with_offers_nothing(ids: tuple[Path, list[str]], line: str) -> None:
    assert offered(ids[0], line) == []


def test_a_registry_that_cannot_answer_keeps_still(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no registry")
    (tmp_path / "empty.db").touch()
    places = ["text.db", "empty.db", "none.db", ".", "none/none.db"]
    for place in [*(str(tmp_path / place) for place in places), "postgresql://me:word@127.0.0.1:1/a", "mysql://a"]:
        assert offered(place, "plop show ") == ["latest"]
    assert not (tmp_path / "none.db").exists()


def test_a_broken_plop_toml_keeps_completion_alive(ids: tuple[Path, list[str]], tmp_path: Path) -> None:
    (tmp_path / "plop").mkdir()
    (tmp_path / "plop/plop.toml").write_text("samples = ")
    assert offered(ids[0], "plop hist", XDG_CONFIG_HOME=str(tmp_path)) == ["history"]


@pytest.fixture(scope="module")
def ten_thousand(
    tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Any]
) -> tuple[Path, list[str], list[str]]:
    """A registry of 10,000 runs of 500 models on 50 tasks; ids, and models. The rows are one real run's, made anew."""
    path = tmp_path_factory.mktemp("many") / "registry.db"
    with Registry(path) as registry:
        registry.add(*make_run(0, model_id="org/model-000", task_id="file:/data/000.jsonl"))
    rng = Random(0)
    ids = [f"{rng.getrandbits(64):016x}" for _ in range(9_999)]
    with closing(sqlite3.connect(path)) as connection, connection:
        _copy(connection, "models", [{"id": n, "source": f"org/model-{n:03}"} for n in range(2, 501)])
        _copy(connection, "tasks", [{"id": n, "source": f"file:/data/{n:03}.jsonl"} for n in range(2, 51)])
        _copy(
            connection,
            "runs",
            [
                {"number": n, "id": id, "key": f"{n:064x}", "model": n % 500 + 1, "task": n % 50 + 1}
                for n, id in enumerate(ids, start=2)
            ],
        )
    return path, ids, [f"org/model-{n:03}" for n in (0, *range(2, 501))]


def _copy(connection: sqlite3.Connection, table: str, changes: list[dict[str, Any]]) -> None:
    """Add a row like the first one for each of these changes."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(f":{name}" if name in changes[0] else f'"{name}"' for name in columns)
    connection.executemany(f"INSERT INTO {table} SELECT {values} FROM {table} LIMIT 1", changes)


def test_of_ten_thousand_runs_those_are_offered_that_begin_so(ten_thousand: tuple[Path, list[str], list[str]]) -> None:
    path, ids, models = ten_thousand
    assert offered(path, f"plop show {ids[5][:6]}") == [ids[5]]
    assert offered(path, "plop score org/model-12") == [name for name in models if name.startswith("org/model-12")]
    assert offered(path, "plop history --task file:/data/03") == [f"file:/data/03{n}.jsonl" for n in range(10)]
    assert len(offered(path, "plop show ")) == 101, "a hundred of a kind are enough, and `latest`"


START = {
    "bash": (["--norc", "-i"], "{script}\n"),
    "zsh": (["-f", "-i"], "autoload -Uz compinit; compinit -u -D\n{script}\n"),
    "fish": (["--no-config", "-i"], "{script}\n"),
}
"""How each shell is started, and what makes it complete."""


@pytest.mark.slow
@pytest.mark.parametrize("shell", START)
def test_the_tab_key_completes_in_a_real_shell(
    ten_thousand: tuple[Path, list[str], list[str]], shell: str, tmp_path: Path
) -> None:
    path, ids, _ = ten_thousand
    with terminal_of(shell, path, tmp_path) as terminal:
        for typed, completed in (
            (f"plop show {ids[7][:9]}", ids[7][9:]),
            ("plop score org/model-50", "org/model-500"),
            ("plop score demo --task sample/m", "ath"),
            ("plop hist", "ory"),
        ):
            os.write(terminal, f"{typed}\t".encode())
            said(terminal, completed)
            os.write(terminal, b"\x15")  # what is typed is taken away again


@contextmanager
def terminal_of(shell: str, registry: Path, home: Path) -> Iterator[int]:
    """A shell on a terminal of its own, as after `plop --install-completion`; in CI it must be there."""
    program = shutil.which(shell)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {shell} here")
    environment = {**os.environ, "PLOP_REGISTRY": str(registry), "HOME": str(home), "ZDOTDIR": str(home)}
    environment |= {"PATH": f"{SCRIPT.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
    environment |= {"XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
    script = subprocess.run(
        [SCRIPT], env={**environment, "_PLOP_COMPLETE": f"source_{shell}"}, capture_output=True, text=True, check=True
    ).stdout
    options, start = START[shell]
    (home / "start").write_text(start.replace("{script}", script) + "echo rea''dy\n")
    child, terminal = pty.fork()
    if child == 0:
        os.execve(program, [shell, *options], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    try:
        said(terminal, "[>%#]")
        os.write(terminal, f". {home}/start\r".encode())
        said(terminal, "ready")
        yield terminal
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def said(terminal: int, pattern: str) -> str:
    """What a terminal shows, up to this; the test fails where it does not within 30 seconds."""
    shown, until = "", time.monotonic() + 30
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
        if re.search(pattern, shown):
            return shown
    raise AssertionError(shown)
