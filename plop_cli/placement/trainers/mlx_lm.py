"""mlx-lm: the LoRA keys of the YAML of `mlx_lm.lora --config` (mlx_lm/lora.py, tuner/utils.py: linear_to_lora_layers).

A key is the path of a module inside of its block, and is adapted in the last `num_layers` blocks (-1: in all of them);
`scale` is what PEFT calls alpha / r. mlx-lm has models of its own: those below have the module paths of transformers.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError
from plop_cli.placement.trainers.yaml import mapping
from plop_cli.words import listed

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement

TASKS = ("CAUSAL_LM",)
FILE = "mlx-lm.yaml"

MODELS = {"Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Phi", "Phi3", "Olmo2", "SmolLM3"}
MODELS |= {"Granite", "Cohere", "Starcoder2", "Ernie4_5", "SeedOss", "HunYuanDenseV1"}
"""Families whose modules have the same paths there, as a test with mlx-lm itself holds."""

_BLOCK = re.compile(r"model\.layers\.(\d+)\.(.+)")


def write(placement: Placement) -> tuple[str, list[str]]:
    """Keys for the user's own YAML."""
    if placement.architecture.removesuffix("ForCausalLM") not in MODELS:
        raise PlopError(
            f"mlx-lm's own {placement.architecture} may call its modules otherwise; the format knows "
            f"{listed(sorted(MODELS))}"
        )
    places = {name: found for name in placement.names if (found := _BLOCK.fullmatch(name))}
    wanted = [places[name] for name in placement.matched_modules if name in places]
    if len(wanted) < len(placement.matched_modules):
        raise PlopError("mlx-lm adapts modules of the blocks alone; choose other types")
    keys = sorted({found[2] for found in wanted})
    blocks = 1 + max(int(found[1]) for found in places.values())
    first = min(int(found[1]) for found in wanted)
    scale = placement.alpha / (math.sqrt(placement.rank) if placement.rslora else placement.rank)
    text = mapping(
        {
            "fine_tune_type": "lora",
            "num_layers": blocks - first if first else -1,
            "lora_parameters": {"keys": keys, "rank": placement.rank, "scale": scale, "dropout": 0.0},
        }
    )
    return text, [name for name, found in places.items() if found[2] in keys and int(found[1]) >= first]
