"""Several processes score one model together: the same scores, one run, and an end where one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plop_cli import PlopError
from plop_cli.processes import ALONE, Group
from plop_registry import Registry

BOUND = 120
"""Seconds within which everything here must be over, however slow the machine."""


@pytest.fixture(scope="session")
def tiny(saved: Path) -> Path:
    return saved


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def torchrun(*arguments: object, processes: int = 2) -> subprocess.Popen[str]:
    """`torchrun … -m plop_cli ARGUMENTS`, in a process group of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [*command, "-m", "plop_cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, errors = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, errors


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one_and_print_and_store_one_run(tiny: Path, registry: Path) -> None:
    command = ["score", tiny, "--task", "sample/math", "-n", "9", "--json"]
    alone = subprocess.run(
        [sys.executable, "-m", "plop_cli", *map(str, command), "--registry", str(registry.with_name("one.db"))],
        capture_output=True,
        text=True,
        check=True,
    )
    code, out, errors = finish(torchrun(*command, "--registry", registry))
    assert code == 0, errors
    one, two = json.loads(alone.stdout), json.loads(out)
    assert two["key"] == one["key"]
    assert two["task"] == one["task"]
    for a, b in zip(one["modules"], two["modules"], strict=True):
        assert (b["name"], b["tokens"]) == (a["name"], a["tokens"])
        assert (b["nfn"], b["nfn_squared"]) == pytest.approx((a["nfn"], a["nfn_squared"]), rel=1e-6)
    with Registry(registry) as store:
        assert [run.id for run in store.runs()] == [two["run_id"]]

    code, out, errors = finish(torchrun(*command, "--registry", registry))
    assert (code, json.loads(out)) == (0, two | {"cached": True}), "a hit is a hit"
    assert errors.count("answered from the registry") == 1


@pytest.mark.slow
def test_an_error_is_said_once_and_ends_all(tiny: Path, registry: Path) -> None:
    code, out, errors = finish(
        torchrun("score", tiny, "--task", "sample/math", "--max-length", "999", "--registry", registry)
    )
    assert (code, out) == (1, "")
    assert [line for line in errors.splitlines() if line.startswith("plop:")] == [
        "plop: the model has 256 positions; give --max-length 256 or less"
    ]


@pytest.mark.slow
def test_standard_input_is_for_one_process(tiny: Path, registry: Path) -> None:
    code, _, errors = finish(torchrun("score", tiny, "--task", "-", "--registry", registry))
    assert code == 1
    assert errors.count("standard input can be read by one process alone") == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_run_and_nothing_is_stored(
    tiny: Path, registry: Path, tmp_path: Path, victim: int
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a text to be scored in a batch of its own\n" * 4000)
    process = torchrun("score", tiny, "--task", words, "-n", "4000", "--batch-tokens", "1", "--registry", registry)
    started = time.monotonic()
    while not registry.exists():  # made ready when the weights are loaded
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - started < BOUND
        time.sleep(0.05)
    time.sleep(2)
    os.kill(worker(process.pid, victim), signal.SIGKILL)
    code, out, errors = finish(process)
    assert code not in (0, None)
    assert out == ""
    assert "SIGKILL" in errors, "torchrun names who died"
    assert victim == 0 or "plop: another process is gone or stuck; nothing half done" in " ".join(errors.split())
    with Registry(registry) as store:
        assert store.runs() == []
        assert store.check() == []


def worker(parent: int, rank: int) -> int:
    """The process id of the worker with this rank."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no worker {rank} among {children}")


def test_texts_are_dealt_from_the_longest_on() -> None:
    ids = [[1], [1] * 9, [1] * 5, [], [1] * 6, [1] * 3]
    first, second = (Group(rank, 2).shard(ids) for rank in range(2))
    assert [len(tokens) for tokens in first] == [1, 9, 5, 0, 0, 0]
    assert [a + b for a, b in zip(first, second, strict=True)] == ids, "each text is in one share"
    assert ALONE.shard(ids) == ids
    assert ALONE.gather("x") == ["x"]


def test_alone_an_error_is_itself() -> None:
    with pytest.raises(PlopError, match=r"^as it was$"), ALONE.together():
        raise PlopError("as it was")
