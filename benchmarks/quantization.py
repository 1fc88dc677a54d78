"""How far quantized weights move SmolLM2's scores, as a Markdown page (docs/quantization.md is what it printed).

    python benchmarks/quantization.py [--samples N] > docs/quantization.md

The demo's weights in float32, and the same quantized by `--load-in 8bit` and `--load-in 4bit`, on the first N texts of
sample/math. Needs `pip install 'plop-cli[quant]'`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import textwrap
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from plop_cli import NFNScores, score
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify

TEXTS = Path(__file__).parent.parent / "plop_cli" / "texts" / "samples" / "math.jsonl"


def save_demo(folder: Path) -> None:
    """The demo as a float32 folder: what comes from a GGUF file is not quantized again."""
    model, tokenizer = load(identify("demo"), Loading(dtype="float32", device="cpu"))
    del model.config.quantization_config
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def scores(folder: Path, texts: list[str], load_in: str | None) -> NFNScores:
    model, tokenizer = load(identify(str(folder), Loading(load_in=load_in)), Loading(dtype="float32", device="cpu"))
    return score(model, tokenizer, texts)


def page(plain: NFNScores, quantized: dict[str, NFNScores]) -> str:
    """A table of types, a table of modules, and whether the choice is the same."""
    lines = ["| type | float32 | " + " | ".join(f"{name} | drift" for name in quantized) + " |"]
    lines.append("|---|--:|" + "--:|--:|" * len(quantized))
    for reference in plain.types:
        cells = [f"{'**' * reference.recommended}{reference.type}{'**' * reference.recommended}"]
        cells.append(f"{reference.nfn:.3f} ± {reference.stderr or 0:.3f}")
        for found in quantized.values():
            (nfn,) = (other.nfn for other in found.types if other.type == reference.type)
            cells += [f"{nfn:.3f}", f"{nfn / reference.nfn - 1:+.2%}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| | drift of a module: median | largest | recommended |", "|---|--:|--:|---|"]
    lines.append(f"| float32 | | | {', '.join(plain.recommended)} |")
    for name, found in quantized.items():
        drift = {a.name: abs(b.nfn / a.nfn - 1) for a, b in zip(plain.modules, found.modules, strict=True)}
        median, largest = sorted(drift.values())[len(drift) // 2], max(drift, key=drift.__getitem__)
        chosen = ", ".join(found.recommended)
        lines.append(f"| {name} | {median:.2%} | {drift[largest]:.2%} (`{largest}`) | {chosen} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16)
    samples = parser.parse_args().samples
    texts = [json.loads(line)["text"] for line in TEXTS.read_text().splitlines()[:samples]]
    with tempfile.TemporaryDirectory() as folder:
        save_demo(Path(folder))
        plain = scores(Path(folder), texts, None)
        quantized = {name: scores(Path(folder), texts, option) for name, option in (("int8", "8bit"), ("nf4", "4bit"))}
    opening = (
        f"SmolLM2-135M on the first {len(texts)} texts of `sample/math` ({plain.tokens:,} tokens), on the CPU: "
        "its weights in float32, and the same quantized by `--load-in 8bit` (int8) and `--load-in 4bit` (nf4). "
        f"bitsandbytes {version('bitsandbytes')}, torch {version('torch')}. In bold what PLoP adapts."
    )
    closing = (
        "The same for a model of yours: `plop score MODEL -t TASK`, then `plop score MODEL -t TASK --load-in 4bit`, "
        "and `plop compare` of the two runs."
    )
    print("# Quantized weights\n\n<!-- Printed by benchmarks/quantization.py. -->\n")
    print(textwrap.fill(opening, 120), page(plain, quantized), textwrap.fill(closing, 120), sep="\n\n")


if __name__ == "__main__":
    main()
