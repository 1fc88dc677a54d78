"""Tasks on the hub: the real `datasets` over a hub of this machine, and what is remembered of a draw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_hub import COMMIT, hub
from plop_cli.errors import PlopError
from plop_cli.texts.pinned import Pinned
from plop_cli.texts.rows import InMemory

ROWS = [{"question": f"What is {n} + {n}?", "answer": f"{n} + {n} = {2 * n}"} for n in range(40)]
LOAD = """
import json, sys
from plop_cli.texts.tasks import load_task
task = load_task("org/sums", **json.loads(sys.argv[1]))
print(json.dumps([task.revision, task.texts, task.rows, "datasets" in sys.modules]))
"""

Load = Callable[..., tuple[str, list[str], list[int], bool]]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """`load_task` in a fresh process: the revision, texts, rows, and whether `datasets` was needed."""
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums/train.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    with hub(tmp_path / "sums", "org/sums", kind="datasets") as endpoint:
        places = {"HF_HOME": str(tmp_path / "hub"), "XDG_CACHE_HOME": str(tmp_path / "cache")}

        def run(**options: Any) -> tuple[str, list[str], list[int], bool]:
            environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", **places}
            command = [sys.executable, "-c", LOAD, json.dumps(options)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            return tuple(json.loads(done.stdout.splitlines()[-1]))

        yield run


def test_a_draw_that_was_made_before_needs_no_datasets(load: Load, tmp_path: Path) -> None:
    revision, texts, rows, loaded = load(samples=8)
    assert (revision, len(texts), loaded) == (COMMIT, 8, True)
    assert load(samples=8) == (revision, texts, rows, False)
    assert load(samples=5) == (revision, texts[:5], rows[:5], False)
    more = load(samples=12)
    assert (more[1][:8], more[2][:8], more[3]) == (texts, rows, True)
    assert load(samples=12) == (*more[:3], False)
    other = load(samples=8, seed=1)
    assert (other[2] != rows, other[3]) == (True, True)
    assert load(samples=8, column="question")[1] == [text.partition("\n")[0] for text in texts]
    for file in (tmp_path / "cache/plop/rows").iterdir():
        file.write_text('[[0, {"question": ')
    assert load(samples=8) == (revision, texts, rows, True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/plop/rows"


def drawn(rows: list[Any], number: int = 3) -> tuple[list[Any], bool]:
    """The first rows of a draw, and whether the source was asked."""
    asked = []
    pinned = Pinned(lambda: asked.append(1) or InMemory(rows), "name", "commit")  # type: ignore[func-returns-value]
    draw = pinned.drawn(seed=0, wanted=number)
    found = [next(draw) for _ in range(number)]
    draw.close()
    return found, bool(asked)


@pytest.mark.parametrize("value", [b"\0", (1, 2), float("nan"), object(), {1: "a"}])
def test_what_json_does_not_keep_is_drawn_again(cache: Path, value: object) -> None:
    rows = [{"text": value}] * 5
    first, asked = drawn(rows)
    again, asked_again = drawn(rows)
    assert (asked, asked_again) == (True, True)
    assert list(map(repr, first)) == list(map(repr, again))


def test_a_row_that_cannot_be_read_is_tried_each_time(cache: Path) -> None:
    rows = [PlopError("no row")] * 2 + [{"text": "a"}]
    first, again = drawn(rows), drawn(rows)
    assert [type(row) for _, row in first[0]] == [type(row) for _, row in again[0]]
    assert again[1] == any(isinstance(row, PlopError) for _, row in first[0])


def test_no_more_than_some_draws_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plop_cli.texts.pinned._KEPT", 3)
    for seed in range(6):
        draw = Pinned(lambda: InMemory(ROWS), "name", "commit").drawn(seed=seed, wanted=2)
        next(draw)
        draw.close()
    assert len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_gone_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert drawn(ROWS) == drawn(ROWS)
