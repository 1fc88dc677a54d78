"""Which modules PEFT refuses to put LoRA on, though they are linear maps and have a score.

The kernels of Mamba-like mixers take the weight of some of their projections by itself and never call the module, so an
adapter on it would not be run. PEFT knows such models by their `model_type` and such modules by the last part of their
path (peft.tuners.tuners_utils._check_lora_target_modules_mamba); here the class of the model says as much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from plop_cli.method.choice import Rule

_MODELS = re.compile(r"(FalconH1|FalconMamba|Mamba2?|NemotronH)(For\w+|Model|PreTrainedModel)")
_MODULES = {"out_proj", "conv1d"}

REASON = "PEFT refuses LoRA on it, as the model's kernel reads its weight past the module"


def refused(architecture: str, names: Iterable[str]) -> list[str]:
    """Those of the modules, or types, that PEFT does not adapt in a model of this class."""
    if not _MODELS.fullmatch(architecture):
        return []
    return [name for name in names if name.rpartition(".")[2] in _MODULES]


def left_out(name: str) -> str:
    """What is said of a module, or type, that is scored and not chosen."""
    return f"{name} is left out of the choice: {REASON}"


def trainable(rule: Rule, architecture: str, units: Iterable[str]) -> Rule:
    """The same rule, with what cannot be trained out of the question."""
    return replace(rule, exclude=rule.exclude | frozenset(refused(architecture, units)))
