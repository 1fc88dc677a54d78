"""TRL: the flags of `trl sft`, `trl grpo` … (trl/trainer/model_config.py).

`ModelConfig` turns a list of one target into a bare string, which PEFT then reads as a regex that must match the whole
path: `v_proj` alone would match nothing. So a single target is written as a regex from the start.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError
from plop_cli.placement.peft import task_type
from plop_cli.placement.targets import Targeting, hits, regex

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


def write(placement: Placement) -> tuple[str, list[str]]:
    """Flags to add to a command."""
    targets, parameters = placement.targeting
    if not targets:
        raise PlopError("trl has no flag for no modules at all, and PEFT then takes its own; choose another format")
    if not isinstance(targets, str) and len(targets) == 1:
        targets = regex(hits(targets, placement.names), placement.names)
    kind = task_type(placement.architecture)
    flags = [
        "--use_peft",
        f"--lora_r {placement.rank}",
        f"--lora_alpha {placement.alpha}",
        *(["--use_rslora"] if placement.rslora else []),
        *([f"--lora_task_type {kind}"] if kind not in (None, "CAUSAL_LM") else []),
        *([f"--lora_target_parameters {shlex.join(parameters)}"] if parameters else []),
        "--lora_target_modules " + shlex.join([targets] if isinstance(targets, str) else targets),
    ]
    return " \\\n".join(flags) + "\n", placement.adapted(Targeting(targets, parameters))
