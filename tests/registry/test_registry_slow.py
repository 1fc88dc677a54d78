"""The registry under load and under the knife: what several processes store, and what `kill -9` leaves behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plop_registry import Registry, Run, SampleMatrix

MakeRun = Callable[..., tuple[Run, SampleMatrix]]

WRITER = """if True:
    import sys
    from dataclasses import replace
    from datetime import timedelta
    from plop_registry import Registry, queries
    url, source, worker, count = sys.argv[1:]
    with Registry(source) as registry:
        run = registry.get("latest")
        matrix = registry.matrix(run.id)
    print("ready", flush=True)
    with Registry(url) as registry:
        for number in range(int(count)):
            changes = {"key": f"{worker}-{number}", "model_id": f"org/{number % 7}", "task_id": f"task {number % 3}"}
            later = run.created_at + timedelta(seconds=number)
            print(registry.add(replace(run, created_at=later, **changes), matrix).id, flush=True)
"""

READER = """if True:
    import os, sys
    from plop_registry import Registry, RegistryError
    url, stop = sys.argv[1:]
    with Registry(url) as registry:
        while not os.path.exists(stop):
            for run in registry.runs(limit=20) + registry.runs(model="org/*", task="task 1", limit=5, modules=True):
                assert len(run.types) == 4 and len(run.modules) in (0, 8), run
            try:
                registry.matrix(registry.get("latest").id)
            except RegistryError as error:
                assert "is empty" in str(error), error
"""


@pytest.fixture
def source(tmp_path: Path, make_run: MakeRun) -> str:
    """A registry with the one run that the processes store again and again."""
    with Registry(tmp_path / "source.db") as registry:
        registry.add(*make_run())
    return registry.url


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **pipes)


@pytest.mark.slow
def test_four_processes_store_250_runs_each_while_others_read(url: str, source: str, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    readers = [start(READER, url, str(stop)) for _ in range(2)]
    writers = [start(WRITER, url, source, str(worker), "250") for worker in range(4)]
    written = [writer.communicate(timeout=500) for writer in writers]
    stop.touch()
    read = [reader.communicate(timeout=60) for reader in readers]
    assert [errors for _, errors in written] == [""] * 4
    assert read == [("", "")] * 2
    reported = {line for output, _ in written for line in output.split() if line != "ready"}
    with Registry(url) as registry:
        assert {run.id for run in registry.runs()} == reported
        assert len(reported) == 1000
        assert registry.status()["models"] == 7
        assert registry.check() == []


@pytest.mark.slow
def test_kill_9_a_hundred_times_loses_no_run_that_was_reported(source: str, tmp_path: Path) -> None:
    """Every tenth time there is no file yet, so that making it is interrupted as well."""
    moments = random.Random(0)
    kept: set[str] = set()
    reported = interrupted = 0
    for number in range(100):
        fresh = number % 10 == 0
        if fresh:
            kept = set()
        url = tmp_path / f"{number // 10}.db"
        writer = start(WRITER, str(url), source, str(number), "1000000")
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        try:
            writer.wait(moments.uniform(0, 0.8 if fresh else 0.1))
        except subprocess.TimeoutExpired:
            interrupted += 1
        writer.kill()
        output, errors = writer.communicate()
        assert errors == ""
        ids = output.split()
        reported += len(ids)
        kept |= set(ids)
        with Registry(url) as registry:
            assert registry.check() == []
            stored = {run.id for run in registry.runs()}
            assert kept <= stored
            assert len(stored - kept) <= number % 10 + 1  # at most one a time was stored and not reported
    assert interrupted == 100
    assert reported > 100
