"""verl: overrides of its Hydra configuration, actor_rollout_ref.model (verl/workers/config/model.py: HFModelConfig).

Its FSDP engine hands them on to PEFT's `LoraConfig` (workers/engine/fsdp/transformer_impl.py); Megatron's has modules
of its own. It has no rank-stabilised LoRA, which divides alpha by √r and not by r: then alpha is written √r times as
large.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement

TASKS = ("CAUSAL_LM",)
FILE = "verl.txt"


def write(placement: Placement) -> tuple[str, list[str]]:
    """Overrides to add to `python -m verl.trainer.main_ppo`; without `actor_rollout_ref.` they are those of its SFT."""
    targets, parameters = placement.targeting
    alpha = placement.alpha * (math.sqrt(placement.rank) if placement.rslora else 1)
    if alpha != int(alpha):
        raise PlopError(
            f"verl has no --rslora, and alpha {placement.alpha} times √{placement.rank} is no whole number; "
            "give a rank that is a square"
        )
    values: dict[str, object] = {
        "actor_rollout_ref.model.lora_rank": placement.rank,
        "actor_rollout_ref.model.lora_alpha": int(alpha),
        "actor_rollout_ref.model.target_modules": targets if isinstance(targets, str) else list(targets),
        # The key is in verl's dataclass and not in its YAML, so it is added.
        **({"+actor_rollout_ref.model.target_parameters": list(parameters)} if parameters else {}),
    }
    words = [shlex.quote(f"{name}={_hydra(value)}") for name, value in values.items()]
    return " \\\n".join(words) + "\n", placement.adapted(placement.targeting)


def _hydra(value: object) -> str:
    """A value as Hydra's grammar of overrides reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_hydra, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w.]*", value):
        return "'" + value.replace("'", "\\'") + "'"
    return value if isinstance(value, str) else json.dumps(value)
