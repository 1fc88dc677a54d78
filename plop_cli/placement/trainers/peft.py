"""PEFT: `adapter_config.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ()
FILE = "adapter_config.json"


def write(placement: Placement) -> tuple[str, list[str]]:
    """`adapter_config.json`, as `PeftConfig.from_pretrained(folder)` reads it."""
    config = {"peft_type": "LORA", **placement.lora_arguments, "bias": "none"}
    return json.dumps(config, indent=2) + "\n", placement.adapted(placement.targeting)
