"""Unsloth: `FastLanguageModel.get_peft_model`, which hands list or regex on to PEFT (unsloth/models/llama.py).

Where it is told of no parameters, it adds the experts' by itself for names such as `down_proj`: so it always is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plop_cli.placement.trainers.python import call

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ("CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM")
FILE = "unsloth.py"


def write(placement: Placement) -> tuple[str, list[str]]:
    """The call that adds the adapters to a model that `FastLanguageModel.from_pretrained` has loaded."""
    keywords = dict(placement.lora_arguments)
    keywords.pop("task_type", None)  # it finds that itself
    if placement.stacks:
        keywords.setdefault("target_parameters", [])
    text = "from unsloth import FastLanguageModel\n\n" + call(
        "model = FastLanguageModel.get_peft_model", keywords, "model"
    )
    return text, placement.adapted(placement.targeting)
