"""LLaMA-Factory: the LoRA keys of its YAML (llamafactory/hparams/finetuning_args.py).

`lora_target` is split at commas and handed on to PEFT as a list, so there is no regex; where an ending would hit too
much, every module is named in full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plop_cli.placement.targets import Targeting
from plop_cli.placement.trainers.yaml import mapping

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ("CAUSAL_LM",)
FILE = "llamafactory.yaml"


def write(placement: Placement) -> tuple[str, list[str]]:
    """Keys for the user's own YAML."""
    targets = tuple(placement.matched_modules) if isinstance(placement.targets, str) else placement.targets
    text = mapping(
        {
            "finetuning_type": "lora",
            "lora_rank": placement.rank,
            "lora_alpha": placement.alpha,
            **({"use_rslora": True} if placement.rslora else {}),
            "lora_target": ",".join(targets),
        }
    )
    return text, placement.adapted(Targeting(targets))
