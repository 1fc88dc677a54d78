"""Make docs/evidence.md and its figures of experiments/results/*.json; with --quick, run all programs quickly instead.

python -m experiments.evidence [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import altair as alt

from experiments.shared.program import RESULTS

DOCS = Path(__file__).parent.parent / "docs"

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

What the paper claims, and what came out when it was tried again with plop and a real pretrained model of 135 M
parameters, at a size that fits two CPU cores. `python -m experiments.evidence` makes this page of the results in
`experiments/results/`; each section ends with the command that makes those, and `make evidence` runs all programs in
their quick form. ± is a 95 % t-interval over seeds unless something else is said. A claim that did not hold is named in
the first paragraph of its section. What was given as `--data` are the first pairs of GSM8K's training and test split;
without it, and without files in the environment variable `GSM8K`, all come from the hub.

In doubt about your own model? The programs take it, your pairs, and a size worthy of your GPU, and print their section:
`python -m experiments.sft --model org/model --data train.jsonl test.jsonl --set steps=1000 batch=16 longest=512`.
"""


QUICK = "**In its quick form**, which shows the harness, not the claim.\n\n"


def results_of_page(name: str) -> Path:
    """The file of a program's results that the page is made of: the full ones where there are any."""
    full = RESULTS / f"{name}.json"
    return full if full.exists() else RESULTS / f"{name}.quick.json"


def _write_figures(charts: Mapping[str, alt.TopLevelMixin]) -> None:
    """Each chart as docs/evidence/NAME.svg."""
    folder = DOCS / "evidence"
    folder.mkdir(exist_ok=True)
    for name, chart in charts.items():
        chart.save(folder / f"{name}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run every program in its quick form, and print")
    if parser.parse_args().quick:
        with tempfile.TemporaryDirectory() as folder:
            for name in PROGRAMS:
                asked = [sys.executable, "-m", f"experiments.{name}", "--quick"]
                if subprocess.run(asked, check=False, env=os.environ | {"PLOP_EVIDENCE": folder}).returncode:
                    sys.exit(1)
        return
    sections = [INTRODUCTION]
    for name in PROGRAMS:
        results, program = json.loads(results_of_page(name).read_text()), import_module(f"experiments.{name}")
        _write_figures(program.draw(results))
        section = program.tell(results)
        sections.append(section.replace("\n\n", f"\n\n{QUICK}", 1) if results["quick"] else section)
    (DOCS / "evidence.md").write_text("\n".join(sections))


if __name__ == "__main__":
    main()
