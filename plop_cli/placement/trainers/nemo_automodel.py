"""NeMo AutoModel: the `peft` section of its recipes (nemo_automodel/components/_peft/lora.py: PeftConfig).

A target is a module's whole path, or a pattern in which * stands for anything (components/_peft/module_matcher.py). It
adapts nn.Linear alone. It has no rank-stabilised LoRA, so that alpha is written √r times as large.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError
from plop_cli.placement.targets import shortest
from plop_cli.placement.trainers.yaml import mapping

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement

TASKS = ("CAUSAL_LM", "SEQ_CLS")
FILE = "nemo-automodel.yaml"

_CONV1D = re.compile("GPT2|OpenAIGPT|DecisionTransformer")


def write(placement: Placement) -> tuple[str, list[str]]:
    """The `peft` section of the user's own YAML."""
    wanted = [name for name in placement.matched_modules if name not in placement.stacks]
    if _CONV1D.match(placement.architecture):
        raise PlopError(f"nemo-automodel adapts nn.Linear alone, and {placement.architecture} has Conv1D")
    short = shortest(wanted, placement.names)
    patterns = wanted if isinstance(short, str) else [f"*.{ending}" for ending in short]
    if set(matches(patterns, placement.names)) != set(wanted):
        patterns = wanted
    alpha = placement.alpha * (math.sqrt(placement.rank) if placement.rslora else 1)
    text = mapping(
        {
            "peft": {
                "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
                "target_modules": patterns,
                "dim": placement.rank,
                "alpha": int(alpha) if alpha == int(alpha) else alpha,
            }
        }
    )
    return text, matches(patterns, placement.names)


def matches(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """The modules among `names` that one of the patterns is, or fits."""
    wild = re.compile("|".join(f"(?:{_regex(pattern)})" for pattern in patterns) or "(?!)")
    return [name for name in names if name in patterns or wild.fullmatch(name)]


def _regex(pattern: str) -> str:
    """Its own reading of a pattern: * and .* are wildcards, and a dot stands for any character."""
    parts = re.split(r"(\.?\*)", pattern)
    found = ""
    for index, part in enumerate(parts):
        before = parts[index - 1] if index else ""
        if index % 2 == 0:
            found += part
        elif part == ".*" and (before.startswith(".") or (index == 1 and parts[0]) or re.search(r"\.\d+$", before)):
            found += r"(\..*)?"
        else:
            found += "(.*)"
    return found
