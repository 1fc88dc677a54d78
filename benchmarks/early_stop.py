"""How many texts a decision needs, and what that saves, on SmolLM2-135M and the four sample tasks.

    python benchmarks/early_stop.py [--repeats R]

Times are of whole commands in processes of their own, each with a fresh registry (but for the last), interleaved.
What baselines take of a decision of 8 texts is measured in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from plop_cli.method.nfn import PROBES

TASKS = [f"sample/{name}" for name in ("math", "code", "history", "logic")]
MATH = ["--task", TASKS[0]]


def plop(registry: Path, *arguments: str) -> tuple[Any, float]:
    """What the command prints, as JSON, and how many seconds it takes."""
    environment = {**os.environ, "PLOP_REGISTRY": str(registry)}
    started = time.perf_counter()
    command = [sys.executable, "-m", "plop_cli", *arguments]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout), time.perf_counter() - started


def needed(folder: Path) -> Table:
    """Each task with an early stop, and in full."""
    table = Table("task", "texts needed", "of", "chosen", "the full data choose", "confidence", "tokens")
    tasks = [argument for task in TASKS for argument in ("--task", task)]
    early, _ = plop(folder / "early.db", "score", "demo", *tasks, "--until-decided", "--json")
    full, _ = plop(folder / "full.db", "score", "demo", *tasks, "--json")
    for one, all_ in zip(early, full, strict=True):
        chosen, of_full = ([row["type"] for row in run["types"] if row["recommended"]] for run in (one, all_))
        table.add_row(
            one["task"]["id"],
            str(one["task"]["samples"]),
            str(all_["task"]["samples"]),
            ", ".join(chosen),
            "the same" if set(chosen) == set(of_full) else ", ".join(of_full),
            f"{one['confidence']:.1%}",
            f"{one['task']['tokens']:,} of {all_['task']['tokens']:,}",
        )
    return table


def times(folder: Path, repeats: int) -> Table:
    """recommend against score, end to end."""
    commands = {
        "plop score demo --task sample/math -n 100": ["score", "demo", *MATH, "-n", "100", "--json"],
        "plop recommend demo --task sample/math": ["recommend", "demo", *MATH, "--format", "json"],
        "the same again, from the registry": ["recommend", "demo", *MATH, "--format", "json"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats):
        for number, (name, arguments) in enumerate(commands.items()):
            seconds[name].append(plop(folder / f"{repeat}-{min(number, 1)}.db", *arguments)[1])
    table = Table("command", "median s", "fastest s")
    for name, values in seconds.items():
        table.add_row(name, f"{statistics.median(values):.1f}", f"{min(values):.1f}")
    return table


def share_of_baselines(repeats: int) -> str:
    """What the probes of all modules take of `score()` on 8 texts."""
    from cost import SAMPLE, load

    from plop_cli import score
    from plop_cli.models.memory import keep_freed
    from plop_cli.scoring.probes import Operators

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*given, **named)
            finally:
                spent.append(time.perf_counter() - began)

        return run

    keep_freed()
    model, tokenizer = load()
    texts = [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()][:8]
    tokens, spent, shares = score(model, tokenizer, texts).tokens, list[float](), []  # which warms up
    for name in ("__init__", "_probe", "_finish"):
        setattr(Operators, name, timed(getattr(Operators, name)))
    for _ in range(max(5, repeats)):
        spent.clear()
        started = time.perf_counter()
        score(model, tokenizer, texts)
        shares.append(sum(spent) / (time.perf_counter() - started))
    least = PROBES / (tokens + PROBES)
    return (
        f"baselines take {statistics.median(shares):.1%} of a decision of 8 texts; "
        f"of the vectors that go through the weights ({tokens} tokens, {PROBES} probes) the probes are {least:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        Console(width=140).print(needed(Path(folder)), times(Path(folder), repeats))
    print(share_of_baselines(repeats))


if __name__ == "__main__":
    main()
