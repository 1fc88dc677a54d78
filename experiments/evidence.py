"""Make docs/evidence.md and its figures of experiments/results/*.json; with --quick, run all programs quickly instead.

python -m experiments.evidence [--quick]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import import_module

from experiments.common import DOCS, RESULTS, write_figures

PROGRAMS = (
    "growth",
    "specialised",
    "sft",
    "singles",
    "classification",
    "grpo",
    "layers",
    "stability",
    "peers",
)
"""In the order of the paper's claims."""

INTRODUCTION = """# Evidence

What the paper claims, and what came out when it was tried again with plop, on two CPU cores, with a real pretrained
model of 135 M parameters. `python -m experiments.evidence` makes this page of the results in `experiments/results/`;
each section ends with the command that makes those, and `make evidence` runs all programs in their quick form. ± is a
95 % t-interval over seeds unless something else is said. A claim that did not hold is named in the first paragraph of
its section. What was given as `--data` are the first pairs of GSM8K's training and test split; without it, all come
from the hub, or for `make evidence` from `GSM8K="train.jsonl test.jsonl"`.

In doubt about your own model? The programs take it, your pairs, and a size worthy of your GPU (the first that torch
finds), and print their section: `python -m experiments.sft --model org/model --data train.jsonl test.jsonl --set
steps=1000 batch=16 longest=512`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run every program in its quick form, and print")
    if parser.parse_args().quick:
        for name in PROGRAMS:
            subprocess.run([sys.executable, "-m", f"experiments.{name}", "--quick"], check=True)
        return
    sections = [INTRODUCTION]
    for name in PROGRAMS:
        files = [RESULTS / f"{name}.json", RESULTS / f"{name}.quick.json"]
        file = next((file for file in files if file.exists()), None)
        if file is None:
            continue
        results, program = json.loads(file.read_text()), import_module(f"experiments.{name}")
        write_figures(program.draw(results))
        sections.append(program.tell(results))
    (DOCS / "evidence.md").write_text("\n".join(sections))


if __name__ == "__main__":
    main()
