"""Unsloth: `FastLanguageModel.get_peft_model`, which hands list or regex on to PEFT (unsloth/models/llama.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plop_cli.exports.matching import hits
from plop_cli.exports.peft import arguments
from plop_cli.exports.python import call

if TYPE_CHECKING:
    from plop_cli.placement import Placement


def write(placement: Placement) -> tuple[str, list[str]]:
    """The call that adds the adapters to a model that `FastLanguageModel.from_pretrained` has loaded."""
    keywords = arguments(placement)
    keywords.pop("task_type", None)  # it sets this itself, and takes no second one
    text = "from unsloth import FastLanguageModel\n\n" + call(
        "model = FastLanguageModel.get_peft_model", keywords, "model"
    )
    return text, hits(placement.targets, placement.names)
