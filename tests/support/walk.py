"""Every configuration that transformers has for a causal, a masked or a sequence-to-sequence language model.

    python tests/support/walk.py walk.jsonl                       # some minutes; goes on from where it stopped
    python tests/support/walk.py walk.jsonl --page > docs/families.md

Each becomes a small model with random weights (`small_configs`), is scored, held against the brute-force reading of
Definition 1, and adapted by real PEFT. What comes of that is a line of JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import signal
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers as hf
from peft.tuners.lora import LoraLayer

import brute_force
from plop_cli import NFNScores, PlopError, recommend, score
from plop_cli.method import nfn
from plop_cli.placement.refused import refused
from plop_registry import Skipped
from small_configs import KINDS, small
from small_models import byte_tokenizer

TEXTS = ["Half of 12 is 6, and half of 6 is 3.", "Why is it so?", "A train leaves at noon; when does it arrive?"]
AGREES = 0.015
"""Relative; more where a matrix has few rows, of which brute force's own draws, one for each token, say little."""

LIMIT = 120
"""Seconds for one family."""

Row = dict[str, Any]

NO_LOSS = (
    "vectors, no matrix",
    "an embedding looks",
    "output head",
    "a head on top",
    "a router",
    "a convolution mixes",
    "tower: texts",
    "beside the language model",
    "saw no token",
)
"""What is no linear map of the text model, or an expert that the texts did not reach."""


def families() -> list[tuple[str, str]]:
    """Every kind and model type."""
    return [(kind, model_type) for kind, (names, _) in KINDS.items() for model_type in sorted(names)]


def walked(kind: str, model_type: str) -> Row:
    """What comes of one family: an outcome, why, what is scored, what is left out, and what is wrong."""
    row: Row = {"kind": kind, "model_type": model_type, "architecture": "", "outcome": "not made", "why": ""}
    row |= {"scored": 0, "types": [], "left_out": [], "wrong": []}
    try:
        model = small(kind, model_type)
    except Exception as error:  # noqa: BLE001  # the small numbers do not suit it, or a package is missing
        return row | {"why": _line(error)}
    row["architecture"] = type(model).__name__
    try:
        # Of narrow matrices 64 probes say little; here it is the reading that is tested, not the sampling.
        with patch.object(nfn, "unit_probes", partial(nfn.unit_probes, count=4096)):
            scores = score(model, byte_tokenizer(), TEXTS)
    except PlopError as error:
        return row | {"outcome": "refused", "why": _line(error)}
    loss = [skipped for skipped in scores.skipped if not any(known in skipped.reason for known in NO_LOSS)]
    types = sorted({module.type for module in scores.modules})
    return row | {
        "outcome": "in part" if loss else "in full",
        "scored": len(scores.modules),
        "types": types,
        "left_out": _by_reason(loss),
        "wrong": [*_silent(model, scores), *_apart(model, scores), *_misplaced(model, types)],
    }


def _by_reason(skipped: Sequence[Skipped]) -> list[str]:
    """`2 like model.layers.0.mlp.experts: …`, the number of modules and the first, by reason."""
    names: dict[str, list[str]] = {}
    for skip in skipped:
        names.setdefault(skip.reason, []).append(skip.name)
    return [(f"{len(of)} like " if of[1:] else "") + f"{of[0]}: {reason}" for reason, of in names.items()]


def _silent(model: Any, scores: NFNScores) -> Iterator[str]:
    """Modules with weights that are neither scored nor said to be left out."""
    said = {one.name.partition("[")[0] for one in (*scores.skipped, *scores.modules)}
    said |= {name.rpartition(".")[0] for name in said}
    weights = (
        name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
    )
    yield from (f"{name} is not spoken of" for name in weights if name not in said)


def _apart(model: Any, scores: NFNScores) -> Iterator[str]:
    """The module that is furthest from brute force, if too far."""
    model.config.use_cache = False
    names = [module.name for module in scores.modules]
    truth = brute_force.brute_force(model, byte_tokenizer(), TEXTS, names)
    distances = [
        (abs(ours - theirs) / theirs / max(1.0, (32 / module.out_features) ** 0.5), module.name)
        for module, values in zip(scores.modules, truth, strict=True)
        for ours, theirs in zip((module.nfn, module.nfn_squared), values, strict=True)
    ]
    distance, name = max(distances, key=lambda one: (one[0] != one[0], one[0]))
    if not distance <= AGREES:
        yield f"{name} is {distance:.1%} off"


def _misplaced(model: Any, types: Sequence[str]) -> Iterator[str]:
    """Where real PEFT does otherwise than said with every second type that it does not refuse, or with the others."""
    left = [kind for kind in types if kind not in refused(type(model).__name__, types)]
    for wanted in filter(None, (left[::2], left[1::2])):
        placement = recommend(targets=wanted, rank=2, model=model)
        try:
            tuned = placement.apply(copy.deepcopy(model))
        except Exception as error:  # noqa: BLE001  # whatever PEFT raises
            yield f"PEFT on {wanted}: {_line(error)}"
            continue
        adapters = sum(isinstance(module, LoraLayer) for module in tuned.modules())
        trained = sum(p.numel() for name, p in tuned.named_parameters() if p.requires_grad and ".lora_" in name)
        if (adapters, trained) != (len(placement.matched_modules), placement.trainable_parameters):
            told = f"{len(placement.matched_modules)} of {placement.trainable_parameters:,}"
            yield f"PEFT on {wanted}: {adapters} adapters of {trained:,} parameters, not {told}"


def _line(error: BaseException) -> str:
    """The error in one line; which of several missing libraries it names depends on what is installed besides."""
    missing = r"requires the \w+ library but it was not found.*"
    line = re.sub(missing, "requires a library that is not installed", " ".join(str(error).split()))
    return line[:200] or type(error).__name__


@contextmanager
def _for_at_most(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def walk(results: Path, *, only: str = "", share: int = 0, shares: int = 1) -> None:
    """Walk on, a line for each family of this share."""
    done = {(row["kind"], row["model_type"]) for row in read(results)} if results.exists() else set()
    for family in families()[share::shares]:
        if family in done or not re.search(only, family[1]):
            continue
        try:
            with _for_at_most(LIMIT), warnings.catch_warnings(action="ignore"):
                row = walked(*family)
        except Exception as error:  # noqa: BLE001  # what must not be: it is told in the row
            row = dict(zip(("kind", "model_type"), family, strict=True)) | {"outcome": "failed", "why": _line(error)}
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read(results: Path) -> list[Row]:
    """The lines so far, in the order of `families`."""
    order = {family: number for number, family in enumerate(families())}
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    return sorted(rows, key=lambda row: order[row["kind"], row["model_type"]])


OUTCOMES = {
    "in full": "every linear map of the text model is scored, agrees with brute force, and takes real PEFT's adapters",
    "in part": "what is scored agrees; some linear maps are left out, with the reason",
    "refused": "an error of one line says why",
    "wrong": "something differs: it is to be mended",
    "failed": "an error that is not plop's own: it is to be mended",
    "not made": "transformers makes no small model of it here",
}


def outcome(row: Row) -> str:
    """One of OUTCOMES."""
    return "wrong" if row.get("wrong") else str(row["outcome"])


def page(rows: Sequence[Row]) -> str:
    """docs/families.md."""
    counts = Counter(map(outcome, rows))
    lines = [f"| {name} | {counts[name]} | {said} |" for name, said in OUTCOMES.items() if counts[name]]
    table = [
        f"| {row['model_type']} | {row['kind']} | {outcome(row)} | {', '.join(row.get('types', ()))} | {_cell(row)} |"
        for row in sorted(rows, key=lambda row: (row["model_type"], row["kind"]))
    ]
    return "\n".join([_HEAD.format(number=len(rows)), *lines, "", _TABLE, *table, ""])


def _cell(row: Row) -> str:
    return "; ".join([row["why"], *row.get("wrong", ()), *row.get("left_out", ())]).strip("; ").replace("|", "¦")


_HEAD = """\
# Families

Every configuration that transformers has for a causal, a masked or a sequence-to-sequence language model: {number}.
Each is made small, with random weights, scored on three texts, held against a brute-force reading of Definition 1, and
adapted by real PEFT with two halves of its types, whose parameters must be those that plop tells. Which modules are of
which type is told in [architectures.md](architectures.md) for some of them. `python tests/support/walk.py walk.jsonl`
walks, and with `--page` makes this page.

| outcome | families | what it means |
|---|--:|---|"""
_TABLE = """\
| family | kind | outcome | types | why, or what is left out |
|---|---|---|---|---|"""


def main() -> None:
    """Walk, or walk one of several shares; or print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", default="", help="model types that this regular expression finds")
    parser.add_argument("--share", default="0/1", help="1/2 is the second of two")
    parser.add_argument("--page", action="store_true", help="print the page of what was walked")
    given = parser.parse_args()
    if given.page:
        print(page(read(given.results)), end="")
        return
    share, shares = map(int, given.share.split("/"))
    torch.set_num_threads(1)
    hf.logging.set_verbosity_error()
    walk(given.results, only=given.only, share=share, shares=shares)


if __name__ == "__main__":
    main()
