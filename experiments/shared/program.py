"""The command line of an experiment, and its results as a file.

if __name__ == "__main__":
    main("growth", run, tell, seeds=range(3))
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from plop_cli import PlopError, __version__
from plop_cli.models.source import DEMO

RESULTS = Path(os.environ.get("PLOP_EVIDENCE") or Path(__file__).parent.parent / "results")
"""Where programs leave what they find."""

Results = dict[str, Any]
"""What a program found, as plain JSON; read back, it also says how: `name`, `quick`, `seeds`, `data`, `versions`, …"""


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
        outcome = run(**options)
    except PlopError as error:
        sys.exit(f"Error: {error}")
    results = {
        "name": name,
        "quick": asked.quick,
        "seeds": chosen,
        **({"data": [file.name for file in asked.data], "model": asked.model} if data else {}),
        **({"set": asked.set} if sizes else {}),
        **outcome,
        "versions": _versions(),
        "device": _device(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    file = results_of(name, asked.model if data else DEMO, ".quick.json" if asked.quick else ".json")
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(tell(results))


def results_of(name: str, model: str, suffix: str) -> Path:
    """The file of a program's results with a model."""
    return RESULTS / f"{stem(name, model)}{suffix}"


def kept_runs(file: Path | None) -> list[dict[str, Any]]:
    """The trainings that were kept there: `key`, `placement`, `run`, and `seconds` where that was written down."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file and file.exists() else []


def stem(name: str, model: str) -> str:
    """What the files of a program, or of one of its figures, are called: with a model that is not the demo, its too."""
    return name if model == DEMO else f"{name}." + re.sub(r"[^\w.-]+", "--", model.strip("./"))


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
    return ",".join(f"{number:g}" for number in value) if isinstance(value, tuple) else f"{value:g}"


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def _versions() -> dict[str, str]:
    versions = {"plop": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "trl", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
