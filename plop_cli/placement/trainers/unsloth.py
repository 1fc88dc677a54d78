"""Unsloth: `FastLanguageModel.get_peft_model`, which hands list or regex on to PEFT (unsloth/models/llama.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plop_cli.placement.targets import Targeting
from plop_cli.placement.trainers.python import call

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


def write(placement: Placement) -> tuple[str, list[str]]:
    """The call that adds the adapters to a model that `FastLanguageModel.from_pretrained` has loaded."""
    keywords = dict(placement.lora_arguments)
    for own in ("task_type", "target_parameters"):  # it sets the one itself, and has no place for the other
        keywords.pop(own, None)
    text = "from unsloth import FastLanguageModel\n\n" + call(
        "model = FastLanguageModel.get_peft_model", keywords, "model"
    )
    return text, placement.adapted(Targeting(placement.targets))
