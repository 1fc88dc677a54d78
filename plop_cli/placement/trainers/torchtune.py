"""torchtune: the LoRA keys of a model builder (torchtune/models/*/_model_builders.py).

torchtune has modules of its own, made from the checkpoint's by a table of names (`_FROM_HF` in models/
convert_weights.py). Attention projections can be chosen one by one, but not none of them, the feed-forward block only
as a whole, and either in every layer.
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
FILE = "torchtune.yaml"
REMARK = "torchtune is no longer developed (0.6.1, April 2025, is the last release)"

_MODELS = {"Llama", "Mistral", "Gemma", "Gemma2", "Qwen2"}
"""Families of which it has a builder, and which have unfused projections."""

_ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "output_proj"}
_FROM_HF = re.compile(r"model\.layers\.\d+\.(?:self_attn\.(?P<attention>[qkvo]_proj)|mlp\.(?:gate|up|down)_proj)")


def write(placement: Placement) -> tuple[str, list[str]]:
    """Keys for the `model:` section of the user's own YAML. Where it cannot say less, it says more than was chosen."""
    if placement.architecture.removesuffix("ForCausalLM") not in _MODELS:
        raise PlopError(f"torchtune has no model like {placement.architecture}; it knows {listed(sorted(_MODELS))}")
    known = {name: found["attention"] for name in placement.names if (found := _FROM_HF.fullmatch(name))}
    if unknown := [name for name in placement.matched_modules if name not in known]:
        raise PlopError(f"torchtune has no counterpart of {unknown[0]} ({placement.architecture}); choose other types")
    chosen = {known[name] for name in placement.matched_modules}
    if chosen == {None}:
        chosen.add("v_proj")
    # It divides alpha by r; rank-stabilised LoRA divides by √r.
    alpha = placement.alpha * (math.sqrt(placement.rank) if placement.rslora else 1)
    text = mapping(
        {
            "model": {
                "lora_attn_modules": [theirs for ours, theirs in _ATTENTION.items() if ours in chosen],
                "apply_lora_to_mlp": None in chosen,
                "lora_rank": placement.rank,
                "lora_alpha": alpha,
            }
        }
    )
    return text, [name for name, kind in known.items() if kind in chosen]
