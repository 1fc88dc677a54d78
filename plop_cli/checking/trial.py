"""What PEFT itself does with a config: it is tried on a model without weights, where that takes a second or two."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from plop_cli.checking.body import Body
from plop_cli.checking.wanted import ALL, Wanted

BY_PEFT = {"peft", "python", "axolotl", "llamafactory", "unsloth", "trl", "ms-swift", "verl", "targets"}
"""The formats whose trainers hand what they read on to PEFT."""


@dataclass(frozen=True)
class Trial:
    """The modules and parameters that got an adapter, how many parameters are trained; or why PEFT refuses."""

    adapted: tuple[str, ...] = ()
    parameters: int = 0
    refusal: str | None = None
    warnings: tuple[str, ...] = ()


def tried(wanted: Wanted, body: Body) -> Trial | None:
    """The trial; None where the trainer does not use PEFT, or PEFT is not installed."""
    if wanted.format not in BY_PEFT or find_spec("peft") is None:
        return None
    import peft

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            config = peft.LoraConfig(**_arguments(wanted))
            tuned: Any = peft.get_peft_model(body.twin(), config, low_cpu_mem_usage=True)
        except Exception as error:  # noqa: BLE001  # whatever it raises here, it raises in training
            return Trial(refusal=_first_sentence(str(error)) or type(error).__name__)
    kept = tuple(dict.fromkeys(_first_sentence(str(one.message)) for one in said if one.category is not FutureWarning))
    return Trial(tuple(_adapted(tuned.base_model.model)), tuned.get_nb_trainable_parameters()[0], warnings=kept)


def _arguments(wanted: Wanted) -> dict[str, Any]:
    """What says where adapters go; what they start from needs weights."""
    targets = ALL if wanted.targets == ALL else wanted.targets
    return {
        "r": wanted.rank,
        "lora_alpha": wanted.alpha or 2 * wanted.rank,
        "lora_dropout": wanted.dropout,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        **({"target_parameters": list(wanted.parameters)} if wanted.parameters else {}),
        **({"use_dora": True} if wanted.dora and wanted.parameters else {}),
        **({"task_type": wanted.task_type} if wanted.task_type else {}),
        **({"modules_to_save": list(wanted.modules_to_save)} if wanted.modules_to_save else {}),
        **({"exclude_modules": _plain(wanted.exclude)} if wanted.exclude else {}),
        **({"layers_to_transform": list(wanted.layers)} if wanted.layers is not None else {}),
        **({"layers_pattern": list(wanted.layers_pattern)} if wanted.layers_pattern else {}),
        **({"rank_pattern": dict(wanted.rank_pattern)} if wanted.rank_pattern else {}),
    }


def _plain(targets: tuple[str, ...] | str) -> list[str] | str:
    return targets if isinstance(targets, str) else list(targets)


def _adapted(model: Any) -> list[str]:
    from peft.tuners.lora import LoraLayer

    found = []
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            place, parameter = re.sub(r"\.base_layer\b", "", path), getattr(module, "parameter_name", "weight")
            found.append(place if parameter == "weight" else f"{place}.{parameter}")
    return found


def _first_sentence(message: str) -> str:
    words = " ".join(message.split())
    return re.split(r"(?<=[a-z\])'\"])\.(?=\s|$)", words, maxsplit=1)[0][:300]
