"""What the experiments share: the command line, results as files, intervals, the demo model, GSM8K.

if __name__ == "__main__":
    main("growth", run, tell, seeds=range(3))
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import altair as alt
import torch

from plop_cli import PlopError, __version__
from plop_cli.method.significance import two_sided
from plop_cli.models.devices import resolve_device
from plop_cli.models.loading import load
from plop_cli.models.source import DEMO, Loading, identify
from plop_cli.texts.readers import rows_of_file, rows_of_hub

RESULTS = Path(os.environ.get("PLOP_EVIDENCE") or Path(__file__).parent.parent / "results")
"""Where programs leave what they find."""
DOCS = Path(__file__).parent.parent.parent / "docs"

Results = dict[str, Any]
"""What a program found, as plain JSON; read back, it also says how: `name`, `quick`, `seeds`, `data`, `versions`, …"""
Pair = dict[str, str]
"""A `question` and its `answer`."""


def main(
    name: str,
    run: Callable[..., Results],
    tell: Callable[[Results], str],
    *,
    seeds: Sequence[int],
    data: str | None = None,
    sizes: tuple[Any, Any] | None = None,
) -> None:
    """Run the experiment as asked for on the command line, keep what it found, and print its section.

    Args:
        run: called with `quick` and `seeds`; where there is `data` with `data`, the files given, and `model`; and where
            there are `sizes` with `size`.
        seeds: unless the command line says otherwise; a quick run takes the first alone.
        data: the environment variable that names files where the command line does not.
        sizes: the full and the quick one, dataclasses of numbers which --set changes.
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=sys.modules["__main__"].__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="a minute or two: shows the harness, not the claim")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=f"default: {' '.join(map(str, seeds))}")
    if data:
        about = f"files for training and for testing, such as JSON lines; default: ${data}, else the hub's {data}"
        given = [Path(file) for file in os.environ.get(data, "").split()]
        parser.add_argument("--data", type=Path, nargs="+", default=given, metavar="FILE", help=about)
        parser.add_argument("--model", default=DEMO, help="default: demo, SmolLM2-135M-Instruct")
    if sizes:
        known = ", ".join(f"{key}={_written(value)}" for key, value in asdict(sizes[0]).items())
        parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help=f"the setting; default: {known}")
    asked = parser.parse_args()
    chosen = asked.seeds or list(seeds)[: 1 if asked.quick else None]
    options: dict[str, Any] = {"quick": asked.quick, "seeds": chosen}
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # over several, a Trainer would spread each batch
    RESULTS.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        if data:
            options |= {"data": asked.data, "model": asked.model}
        if sizes:
            options["size"] = resized(sizes[asked.quick], asked.set)
        found = run(**options)
    except PlopError as error:
        sys.exit(f"Error: {error}")
    results = {
        "name": name,
        "quick": asked.quick,
        "seeds": chosen,
        **({"data": [file.name for file in asked.data], "model": asked.model} if data else {}),
        **({"set": asked.set} if sizes else {}),
        **found,
        "versions": _versions(),
        "device": _device(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    file = results_of(name, asked.model if data else DEMO, ".quick.json" if asked.quick else ".json")
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(tell(results))


def results_of(name: str, model: str, suffix: str) -> Path:
    """The file of a program's results; those of the demo model go into docs/evidence.md."""
    own = "" if model == DEMO else "." + re.sub(r"[^\w.-]+", "--", model.strip("./"))
    return RESULTS / f"{name}{own}{suffix}"


def resized(size: Any, changes: Sequence[str]) -> Any:
    """A dataclass of numbers with changes such as "steps=1000" and "rates=1e-4,1e-3"."""
    known = asdict(size)
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise PlopError(f"--set {change}: there is no {name}; there are {', '.join(known)}")
        try:
            value = tuple(map(float, text.split(","))) if isinstance(known[name], tuple) else type(known[name])(text)
        except ValueError:
            raise PlopError(f"--set {change}: {name} is a number, such as {_written(known[name])}") from None
        size = replace(size, **{name: value})
    return size


def _written(value: Any) -> str:
    """A number or several, as --set takes them."""
    return ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def _versions() -> dict[str, str]:
    found = {"plop": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "trl", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its 95 % t-interval; NaN where one value tells none."""
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return mean, math.nan
    error = statistics.stdev(values) / math.sqrt(count)
    low, high = 0.0, 13.0  # quantiles of t with one degree of freedom or more
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, 1.0, count - 1) > 0.05 else (low, middle)
    return mean, high * error


def show(values: Sequence[float], digits: int = 3) -> str:
    """`interval` as people write it: "1.007 ± 0.004", or the mean alone."""
    mean, half = interval(values)
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table; its columns are the keys of the first row. What is a number stands on the right."""
    columns = list(rows[0])
    right = [isinstance(rows[0][column], int | float) or str(rows[0][column])[:1].isdigit() for column in columns]
    lines = [columns, ["--:" if number else "---" for number in right]]
    lines += [[str(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(text: str) -> str:
    """The text as lines of at most 120 characters, whatever lines it came in."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def figure(name: str, alt_text: str) -> str:
    """The Markdown that shows docs/evidence/NAME.svg."""
    return f"![{alt_text}](evidence/{name}.svg)"


def command(results: Results) -> str:
    """The line that makes a program's results again, as the last of its section."""
    options = f"{' --quick' if results['quick'] else ''} --seeds {' '.join(map(str, results['seeds']))}"
    for option in ("data", "set"):
        options += f" --{option} {' '.join(results[option])}" if results.get(option) else ""
    if results.get("model", DEMO) != DEMO:
        options += f" --model {results['model']}"
    spent = f"{results['seconds'] / 60:.0f} minutes" if results["seconds"] > 90 else f"{results['seconds']:.0f} seconds"
    where = f"torch {results['versions']['torch']}, {results['device']}, {spent}"
    return f"`python -m experiments.{results['name']}{options}` ({where})"


def write_figures(charts: Mapping[str, alt.TopLevelMixin]) -> None:
    """Each chart as docs/evidence/NAME.svg."""
    folder = DOCS / "evidence"
    folder.mkdir(exist_ok=True)
    for name, chart in charts.items():
        chart.save(folder / f"{name}.svg")


def load_model(name: str = DEMO, dtype: str = "float32") -> tuple[Any, Any]:
    """A causal language model and its tokenizer, on the GPU where there is one, in evaluation mode."""
    model: Any
    model, tokenizer = load(identify(name), Loading(dtype=dtype, device=resolve_device("auto")))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if name == DEMO:
        # The GGUF file is quantized, the weights in memory are not; a Trainer would refuse them, and so would saving.
        model.is_quantized, model.hf_quantizer = False, None
        del model.config.quantization_config
    return model, tokenizer


def called(results: Results) -> str:
    """The model's name."""
    return "SmolLM2-135M-Instruct" if results["model"] == DEMO else str(results["model"])


def pairs_of(results: Results) -> str:
    """Where the pairs are from."""
    files: list[str] = results["data"]
    return "GSM8K" if all("gsm8k" in file.lower() for file in files) else ", ".join(files)


def several(count: int, what: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count} {what}{'s' * (count != 1)}"


def gsm8k(split: str, data: Sequence[Path] = ()) -> list[Pair]:
    """The pairs of a split, "train" or "test": of the files given, else of the hub."""
    return rows(split, data, ("question", "answer"), hub=("openai/gsm8k", "main", split))


def rows(
    split: str, data: Sequence[Path], columns: Sequence[str], *, hub: tuple[str, str | None, str]
) -> list[dict[str, Any]]:
    """The rows of "train" or "test": of the files given, else of the hub's data set, configuration and split.

    The first file is for training, the last for testing; of a single file, the last fifth.

    Raises PlopError where they cannot be read, or a column is not there.
    """
    if data:
        source = str(data[0] if split == "train" else data[-1])
        found = [dict(row) for row in rows_of_file(Path(source))]
        cut = len(found) * 4 // 5
        found = found if len(data) > 1 else found[:cut] if split == "train" else found[cut:]
    else:
        source, found = hub[0], [dict(row) for row in rows_of_hub(*hub)[0]]
    needed(len(found), 1, f"rows of {source}")
    if missing := [column for column in columns if column not in found[0]]:
        raise PlopError(f"{source} has no {' and no '.join(missing)}; there are {', '.join(found[0])}")
    return found


def needed(have: int, need: int, what: str) -> None:
    """Raises PlopError where there are too few."""
    if have < need:
        raise PlopError(f"{what}: {have}, and {need} are needed; give more --data, or another --set")
