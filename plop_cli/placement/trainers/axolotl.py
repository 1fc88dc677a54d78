"""Axolotl: the LoRA keys of its YAML (axolotl/utils/schemas/peft.py), which it hands on to PEFT's `LoraConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plop_cli.placement.trainers.yaml import mapping

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ("CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS")
FILE = "axolotl.yaml"


def write(placement: Placement) -> tuple[str, list[str]]:
    """Keys for the user's own YAML."""
    targets, parameters = placement.targeting
    text = mapping(
        {
            "adapter": "lora",
            "lora_r": placement.rank,
            "lora_alpha": placement.alpha,
            **({"peft_use_rslora": True} if placement.rslora else {}),
            "lora_target_modules": targets if isinstance(targets, str) else list(targets),
            **({"lora_target_parameters": list(parameters)} if parameters else {}),
        }
    )
    return text, placement.adapted(placement.targeting)
