"""How the cost of a score grows with samples, length and layers: its ratio to the bare forward, which must not grow.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--repeats R]

A small Llama; one of the three varies while the others stay. Measured as in architectures.py.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import transformers as hf
from rich.console import Console
from rich.table import Table

from architectures import COMMON, contestants, ratios
from plop_cli.models.memory import keep_freed

FIXED = {"samples": 32, "length": 64, "layers": 2}
VARIED = {"samples": (16, 64, 256, 1024), "length": (64, 256, 1024), "layers": (2, 8, 32, 64)}


def ratio(samples: int, length: int, layers: int, *, repeats: int) -> float:
    torch.manual_seed(0)
    widths = {"hidden_size": 256, "intermediate_size": 896, "num_attention_heads": 4, "num_key_value_heads": 1}
    model: Any = hf.LlamaForCausalLM(hf.LlamaConfig(**COMMON | widths | {"num_hidden_layers": layers})).eval()
    texts = [(f"{i:04} " + "Half of 12 is 6. " * length)[:length] for i in range(samples)]
    return ratios(contestants(model, texts), repeats)["body"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    keep_freed()  # for all contestants, as the command does
    table = Table(
        title="score() against a bare forward of the body, " + ", ".join(f"{v} {k}" for k, v in FIXED.items())
    )
    for column in ("but with", "ratio"):
        table.add_column(column, justify="right")
    for what, values in VARIED.items():
        for value in values:
            found = ratio(**FIXED | {what: value}, repeats=asked.repeats)
            table.add_row(f"{value} {what}", f"{found:.3f}", end_section=value == values[-1])
    Console().print(table)


if __name__ == "__main__":
    main()
