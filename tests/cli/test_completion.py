"""The tab key: what a shell is offered, in the shells' own protocol and in a real bash and zsh."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
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


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_tab_key_completes_in_a_real_shell(ids: tuple[Path, list[str]], shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {shell} here")
    path, runs = ids
    environment = {**os.environ, "PLOP_REGISTRY": str(path), "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path)}
    environment |= {"PATH": f"{SCRIPT.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
    script = subprocess.run(
        [SCRIPT], env={**environment, "_PLOP_COMPLETE": f"source_{shell}"}, capture_output=True, text=True, check=True
    ).stdout
    start = {"bash": "", "zsh": "autoload -Uz compinit; compinit -u -D\n"}[shell] + script + "\necho rea''dy\n"
    (tmp_path / "start").write_text(start)
    child, terminal = pty.fork()
    if child == 0:
        os.execve(program, [shell, *{"bash": ["--norc", "-i"], "zsh": ["-f", "-i"]}[shell]], environment)
    try:
        said(terminal, ">|%")
        os.write(terminal, f". {tmp_path}/start\n".encode())
        said(terminal, "ready")
        os.write(terminal, f"plop show {runs[2][:8]}\t".encode())
        said(terminal, runs[2][8:])
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
