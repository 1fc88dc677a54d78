"""What the registry's commands cost on 10,000 runs × 210 modules: the whole process, the median of five.

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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from plop_registry import Registry, SampleMatrix
from plop_registry.schema import MODELS, MODULE_SCORES, RUNS, SAMPLE_MATRICES, TASKS, TYPE_SCORES

PLOP = [sys.executable, "-m", "plop_cli"]
TYPES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LAYERS, TEXTS, VARIANTS = 30, 4, 50
START = datetime(2026, 1, 1, tzinfo=UTC)


def build(path: Path, runs: int) -> None:
    """Fill a new registry. The modules and matrix of a run are one of some few variants."""
    rng = np.random.default_rng(0)
    variants = [_variant(rng) for _ in range(VARIANTS)]
    models = [(f"org/model-{i}", f"checkpoint-{100 * (j + 1)}") for i in range(25) for j in range(10)]
    tasks = ("sample/math", "sample/code", "sample/history", "sample/logic")
    registry = Registry(path)
    registry.upgrade()
    with registry._database.writing() as writer:
        execute = writer._connection.execute
        execute(
            insert(MODELS),
            [
                {"id": number, "source": name, "label": label, "revision": _hex(name + label), "architecture": "Llama"}
                for number, (name, label) in enumerate(models, 1)
            ],
        )
        execute(
            insert(TASKS),
            [
                {"id": number, "source": task, "revision": "1", "texts_hash": _hex(task), "samples": TEXTS}
                for number, task in enumerate(tasks, 1)
            ],
        )
        for first in range(1, runs + 1, 200):
            numbers = range(first, min(first + 200, runs + 1))
            drawn = {number: variants[number % VARIANTS] for number in numbers}
            execute(insert(RUNS), [_run(number, len(models), len(tasks)) for number in numbers])
            execute(
                insert(TYPE_SCORES), [{"run": n, **row} for n, variant in drawn.items() for row in variant["types"]]
            )
            execute(
                insert(MODULE_SCORES), [{"run": n, **row} for n, variant in drawn.items() for row in variant["modules"]]
            )
            execute(insert(SAMPLE_MATRICES), [{"run": n, **variant["matrix"]} for n, variant in drawn.items()])
    registry.close()


def _run(number: int, models: int, tasks: int) -> dict[str, Any]:
    return {
        "number": number,
        "id": _hex(str(number))[:16],
        "key": _hex(f"key {number}"),
        "created_at": START + timedelta(minutes=number),
        "model": number // tasks % models + 1,
        "task": number % tasks + 1,
        "dtype": "float32",
        "tokens": 400,
        "settings": {"samples": TEXTS, "max_length": 256, "seed": 0, "dtype": "float32", "chat": False, "engine": 1},
        "plop_version": "0.1.0",
        "versions": {"torch": "2.13.0"},
        "device": "cpu",
        "duration": 1.0,
        "confidence": 0.99,
        "skipped": [],
        "warnings": [],
    }


def _variant(rng: np.random.Generator) -> dict[str, Any]:
    """Modules, types and matrix of a run whose parts agree."""
    names = [(f"model.layers.{layer}.{name}", name, layer) for layer in range(LAYERS) for name in TYPES]
    counts = rng.integers(50, 200, (TEXTS, 1)).repeat(len(names), axis=1)
    sums = counts * rng.uniform(0.5, 1.5, (TEXTS, len(names)))
    matrix = SampleMatrix(np.arange(TEXTS, dtype=np.uint64), sums, sums, counts)
    nfn = (matrix.sums.sum(axis=0) / counts.sum(axis=0)).astype(float)
    score = {"nfn_squared": 1.0, "stderr": 0.01}
    modules = [
        {"position": i, "name": name, "type": kind, "layer": layer, "in_features": 576, "out_features": 576}
        | {"nfn": float(nfn[i]), "tokens": int(counts[:, i].sum()), **score}
        for i, (name, kind, layer) in enumerate(names)
    ]
    means = {kind: float(nfn[place :: len(TYPES)].mean()) for place, kind in enumerate(TYPES)}
    chosen = sorted(means, key=lambda kind: means[kind])[:3]
    types = [
        {"type": kind, "modules": LAYERS, "nfn": mean, "recommended": kind in chosen, "confidence": 0.9, **score}
        for kind, mean in means.items()
    ]
    return {"modules": modules, "types": types, "matrix": {"sha256": matrix.sha256(), "packed": matrix.pack()}}


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def measure(*arguments: str, registry: Path, times: int = 5, name: str = "") -> None:
    """Print the medians of a whole `plop` process: seconds on the clock, and seconds of CPU."""
    clock, cpu = [], []
    for _ in range(times):
        started, before = time.perf_counter(), os.times()
        subprocess.run([*PLOP, *arguments, "--registry", str(registry)], check=True, capture_output=True)
        after = os.times()
        clock.append(time.perf_counter() - started)
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    print(
        f"{statistics.median(clock):6.2f} s {statistics.median(cpu):8.2f} s   {name or f'plop {shlex.join(arguments)}'}"
    )


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
            ["compare", _hex("1")[:16], _hex("2")[:16]],
        ]
        print("   clock        CPU")
        measure("history", registry=empty, name="plop history, where there is no registry")
        for command in commands:
            measure(*command, registry=full)
        if options.model:
            command = ["score", options.model, "--task", "sample/math", "--samples", "8"]
            measure(*command, registry=empty, times=1)
            measure(*command, registry=empty, name="the same again: a cache hit")


if __name__ == "__main__":
    main()
