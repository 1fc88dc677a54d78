"""What the registry's commands and completion cost on 10,000 runs × 210 modules: whole processes, medians of five.

    python benchmarks/registry.py [--runs 10000] [--keep FILE] [--model FOLDER]

The runs are rows in the real tables, as a Llama of 30 layers has them: 25 models with 10 checkpoints, 4 tasks, and
reruns. Their sample matrices are of 4 texts, since no command reads more than those of the runs it compares; the scores
are random. With --model, a cache hit is timed too: that model is scored once on 8 texts, and then asked for again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from plop_registry import ModuleScore, Registry, Run, SampleMatrix, TypeScore
from plop_registry.runs import id_of, seal_of

PLOP = [sys.executable, "-m", "plop_cli"]
TYPES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TASKS = ("sample/math", "sample/code", "sample/history", "sample/logic")
LAYERS, TEXTS, VARIANTS = 30, 4, 50
START = datetime(2026, 1, 1, tzinfo=UTC)


def build(path: Path, runs: int) -> None:
    """Fill a new registry. The modules and matrix of a run are one of some few variants."""
    rng = np.random.default_rng(0)
    variants = [_variant(rng) for _ in range(VARIANTS)]
    registry = Registry(path)
    registry.upgrade()
    with registry._database.writing() as writer:
        for number in range(1, runs + 1):
            scores, sha256, packed = variants[number % VARIANTS]
            run = replace(scores, **_identity(number))
            writer.add(replace(run, id=id_of(run.content(), sha256)), sha256, packed)
    registry.close()


def _identity(number: int) -> dict[str, Any]:
    """Which of 25 models, of its 10 checkpoints and of 4 tasks a run is of, and when it was scored."""
    checkpoint, task = divmod(number, len(TASKS))
    model, step = divmod(checkpoint % 250, 10)
    name, label = f"org/model-{model}", f"checkpoint-{100 * (step + 1)}"
    return {
        "key": _hex(f"key {number}"),
        "created_at": START + timedelta(minutes=number),
        "model_id": name,
        "model_label": label,
        "model_revision": _hex(name + label),
        "task_id": TASKS[task],
        "texts_hash": _hex(TASKS[task]),
    }


def _variant(rng: np.random.Generator) -> tuple[Run, str, bytes]:
    """A run whose parts agree, and its matrix."""
    names = [(f"model.layers.{layer}.{name}", name, layer) for layer in range(LAYERS) for name in TYPES]
    counts = rng.integers(50, 200, (TEXTS, 1)).repeat(len(names), axis=1)
    sums = counts * rng.uniform(0.5, 1.5, (TEXTS, len(names)))
    matrix = SampleMatrix(np.arange(TEXTS, dtype=np.uint64), sums, sums, counts)
    nfn = (matrix.sums.sum(axis=0) / counts.sum(axis=0)).astype(float)
    tokens = int(counts[:, 0].sum())
    modules = [ModuleScore(*name, 576, 576, float(nfn[i]), float(nfn[i]), 0.01, tokens) for i, name in enumerate(names)]
    means = {kind: float(nfn[place :: len(TYPES)].mean()) for place, kind in enumerate(TYPES)}
    chosen = sorted(means, key=lambda kind: means[kind])[:3]
    run = Run(
        key="",
        created_at=START,
        model_id="",
        model_revision="",
        architecture="Llama",
        dtype="float32",
        task_id="",
        task_revision="1",
        texts_hash="",
        samples=TEXTS,
        tokens=tokens,
        settings={"samples": TEXTS, "max_length": 256, "seed": 0, "dtype": "float32", "chat": False, "engine": 1},
        plop_version="0.1.0",
        versions={"torch": "2.13.0"},
        device="cpu",
        duration=1.0,
        confidence=0.99,
        types=tuple(TypeScore(kind, LAYERS, mean, mean, 0.01, kind in chosen, 0.9) for kind, mean in means.items()),
        modules=tuple(modules),
    )
    return run, matrix.sha256(), matrix.pack()


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def measure(*arguments: str, registry: Path, times: int = 5, name: str = "") -> None:
    """Print the medians of a whole `plop` process: seconds on the clock, and seconds of CPU."""
    command = [*PLOP, *arguments, "--registry", str(registry)]
    _measure(command, {}, times, name or f"plop {shlex.join(arguments)}")


def complete(line: str, registry: Path) -> None:
    """The same of what bash asks for when somebody presses the tab key."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_PLOP_COMPLETE": "complete_bash"}
    command = [str(Path(sys.executable).with_name("plop"))]
    _measure(command, {**words, "PLOP_REGISTRY": str(registry)}, 5, f"{line}<TAB>")


def _measure(command: list[str], environment: dict[str, str], times: int, name: str) -> None:
    clock, cpu = [], []
    for _ in range(times):
        started, before = time.perf_counter(), os.times()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
        after = os.times()
        clock.append(time.perf_counter() - started)
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    print(f"{statistics.median(clock):6.2f} s {statistics.median(cpu):8.2f} s   {name}")


def verification(registry: Path) -> None:
    """Print what is part of these times: the microseconds of CPU that it takes to verify a run that was read."""
    with Registry(registry) as store:
        listed, whole = store.runs(limit=1_000), store.runs(limit=50, modules=True)
    ways = {
        "a run of a listing": (listed, seal_of),
        "one with its modules": (whole, lambda run: id_of(run.content(), "")),
    }
    for what, (runs, verify) in ways.items():
        started = time.process_time()
        for run in runs:
            verify(run)
        print(f"{(time.process_time() - started) / len(runs) * 1e6:8,.0f} µs to verify {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="where the registry is built, and left for the next time")
    parser.add_argument("--model", help="a model to score, for the time of a cache hit")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        empty, full = Path(scratch, "empty.db"), options.keep or Path(scratch, "full.db")
        if not full.exists():
            started = time.perf_counter()
            build(full, options.runs)
            print(
                f"built {options.runs:,} runs × {LAYERS * len(TYPES)} modules in {time.perf_counter() - started:.0f} s"
            )
        print(f"{full.stat().st_size / 1e6:,.0f} MB")
        commands = [
            ["history"],
            ["history", "--model", "org/model-7", "--task", "sample/math", "--limit", "200"],
            ["history", "--type", "v_*", "--since", "2026-01-02"],
            ["show", "latest"],
            ["show", "org/model-7/sample/math", "--by", "module", "--map"],
            ["compare", "--by", "task", "--model", "org/model-7"],
            ["compare", "--by", "revision", "--model", "org/model-7", "--task", "sample/math"],
            ["compare", "--by", "model", "--task", "sample/math"],
            ["compare", "org/model-1/sample/math", "org/model-2/sample/math"],
        ]
        print("   clock        CPU")
        measure("history", registry=empty, name="plop history, where there is no registry")
        for command in commands:
            measure(*command, registry=full)
        for line in ("plop show 1", "plop score org/mo", "plop history --task sam"):
            complete(line, full)
        verification(full)
        if options.model:
            command = ["score", options.model, "--task", "sample/math", "--samples", "8"]
            measure(*command, registry=empty, times=1)
            measure(*command, registry=empty, name="the same again: a cache hit")


if __name__ == "__main__":
    main()
