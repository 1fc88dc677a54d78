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

from experiments.shared.data import called
from experiments.shared.program import RESULTS, Results, stem
from experiments.shared.summary import summary, titled
from plop_cli.models.source import DEMO

DOCS = Path(__file__).parent.parent / "docs"

PROGRAMS = (
    "growth",
    "families",
    "specialised",
    "sft",
    "singles",
    "classification",
    "grpo",
    "layers",
    "stability",
    "peers",
    "tenth",
)
"""In the order of the paper's claims."""

INTRODUCTION = """# Evidence

What the paper claims, and what came out when it was tried again with plop and real pretrained models, at a size that
fits two CPU cores. `python -m experiments.evidence` makes this page of the results in `experiments/results/`; each
section ends with the command that makes those and the time that it took, without trainings that were kept there from
before; `make evidence` runs all programs in their quick form. ± is a 95 % t-interval over seeds unless something else
is said. A claim that did not hold is named in the first paragraph of its section. What was given as `--data` are the
first pairs of GSM8K's training and test split; without it, and without files in the environment variable `GSM8K`, all
come from the hub. A section without a model's name is of SmolLM2-135M-Instruct.

Not tried: Llama 3.2, of which the paper's authors published scores, and any model of more than 500 million parameters;
ANLI itself; reinforcement learning for more than minutes. Learning rates are the best of a few, on 16 validation pairs;
where an end of the range was best, that is said.

In doubt about your own model? The programs take it, your pairs, and a size worthy of your GPU, and print their section:
`python -m experiments.sft --model org/model --data train.jsonl test.jsonl --set steps=1000 batch=16 longest=512`.
"""


QUICK = "**In its quick form**, which shows the harness, not the claim.\n\n"


def results_of_page(name: str) -> list[Results]:
    """A program's results that the page is made of: the demo model's, full where there are such; then other models'."""
    demo, *others = (RESULTS / f"{name}.json"), *sorted(RESULTS.glob(f"{name}.*[!k].json"))
    quick = RESULTS / f"{name}.quick.json"
    files = [demo if demo.exists() else quick, *(file for file in others if file != quick)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def write_figures(charts: Mapping[str, alt.TopLevelMixin], results: Results) -> None:
    """Each chart as docs/evidence/NAME.svg, of the results' model."""
    folder = DOCS / "evidence"
    folder.mkdir(exist_ok=True)
    for name, chart in charts.items():
        chart.save(folder / f"{stem(name, results.get('model', DEMO))}.svg")


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
    (DOCS / "evidence.md").write_text(page())


def page() -> str:
    """The page, of all results; its figures are written besides."""
    everything = {name: {called(results): results for results in results_of_page(name)} for name in PROGRAMS}
    sections, titles = [], {}
    for name, by_model in everything.items():
        program = import_module(f"experiments.{name}")
        for at, results in enumerate(by_model.values()):
            write_figures(program.draw(results), results)
            section = program.tell(results)
            titles[name] = section.partition("\n")[0].removeprefix("## ")
            if results.get("model", DEMO) != DEMO:
                section = titled(section, called(results), below=at > 0)
            sections.append(section.replace("\n\n", f"\n\n{QUICK}", 1) if results["quick"] else section)
    full = {name: {m: r for m, r in by_model.items() if not r["quick"]} for name, by_model in everything.items()}
    return "\n".join([INTRODUCTION, summary(full, titles), *sections])


if __name__ == "__main__":
    main()
