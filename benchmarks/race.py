"""What a lap of a race costs against a bare loop of PEFT and torch that does the same work.

    python benchmarks/race.py [--model MODEL] [--data FILE.jsonl] [--steps N] [--repeats R]

One process with one thread, interleaved runs, medians of CPU time: both put adapters in, train them on the same
batches, measure the same examples and take the adapters out again.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy

from plop_cli import Placement, recommend
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.network.anatomy import anatomy
from plop_cli.racing.examples import Data, Example, draw
from plop_cli.racing.identity import Setting
from plop_cli.racing.sources import read
from plop_cli.racing.training import Trainer, batches

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "plop_cli" / "texts" / "samples" / "math.jsonl"


def padded(batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask, and labels, −100 where no loss counts."""
    longest = max(len(example.ids) for example in batch)
    ids, mask = torch.zeros(2, len(batch), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(batch):
        size = len(example.ids)
        ids[row, :size], mask[row, :size] = torch.tensor(example.ids), 1
        labels[row, :size] = torch.where(torch.tensor(example.counts), ids[row, :size], -100)
    return ids, mask, labels


def loss_of(model: Any, batch: Sequence[Example], reduction: str = "mean") -> Tensor:
    ids, mask, labels = padded(batch)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    inside = labels[:, 1:] != -100
    return cross_entropy(logits[inside], labels[:, 1:][inside], reduction=reduction)


def bare(model: Any, placement: Placement, data: Data, setting: Setting) -> list[float]:
    """A lap, written down as one would without plop; gives the loss of each step."""
    torch.manual_seed(0)
    tuned = get_peft_model(model, placement.lora_config()).train()
    optimizer = torch.optim.AdamW([weight for weight in tuned.parameters() if weight.requires_grad], lr=1e-3)
    losses = []
    for step, batch in enumerate(batches(data.train, setting.batch, setting.steps, 0)):
        warm = min(1.0, (step + 1) / max(1, setting.steps // 10))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * warm * (1 + math.cos(math.pi * step / setting.steps)) / 2
        loss = loss_of(tuned, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    tuned.eval()
    by_length = sorted(data.test, key=lambda example: len(example.ids))
    with torch.no_grad():
        for start in range(0, len(by_length), 8):
            loss_of(tuned, by_length[start : start + 8], "none")
    tuned.unload()
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--data", default=str(SAMPLE))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(identify(asked.model), Loading(dtype="float32", device="cpu"))
    data = draw(tokenizer, read(asked.data), longest=128, tested=8)
    setting = Setting(steps=asked.steps, batch=4)
    body = anatomy(model)
    placement = recommend(targets=["gate_proj", "up_proj", "down_proj"], model=body, rank=8)
    trainer = Trainer(model, data, setting)
    runs = {
        "lap": lambda: trainer.lap(placement, rate=1e-3, seed=0).train.tolist(),
        "bare": lambda: bare(model, placement, data, setting),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(asked.repeats):
        losses = {}
        for name, run in runs.items():
            started = time.process_time()
            losses[name] = run()
            seconds[name].append(time.process_time() - started)
    apart = max(abs(own - other) for own, other in zip(losses["lap"], losses["bare"], strict=True))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [lap / other for lap, other in zip(*seconds.values(), strict=True)]
    Console().print(
        f"a lap of {asked.steps} steps: {medians['lap']:.1f} s, a bare loop {medians['bare']:.1f} s; ratio "
        f"{medians['lap'] / medians['bare']:.3f} (pair by pair {min(ratios):.3f} to {max(ratios):.3f}); "
        f"losses are at most {apart:.1e} apart"
    )


if __name__ == "__main__":
    main()
