"""TRL: the flags of `trl sft`, `trl grpo` … (trl/trainer/model_config.py).

`ModelConfig` turns a list of one target into a bare string, which PEFT then reads as a regex that must match the whole
path: `v_proj` alone would match nothing. So a single target is written as a regex from the start, and no target at all,
for which there is no flag, as a regex that matches nothing.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from plop_cli.placement.targets import NOTHING, Targeting, hits, regex

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ("CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS")
FILE = "trl.txt"


def write(placement: Placement) -> tuple[str, list[str]]:
    """Flags to add to a command."""
    targets, parameters = placement.targeting
    if not targets:
        targets = NOTHING
    elif not isinstance(targets, str) and len(targets) == 1:
        targets = regex(hits(targets, placement.names), placement.names)
    kind = placement.task_type
    flags = [
        "--use_peft",
        f"--lora_r {placement.rank}",
        f"--lora_alpha {placement.alpha}",
        *(["--use_rslora"] if placement.rslora else []),
        *([f"--lora_task_type {kind}"] if kind != "CAUSAL_LM" else []),
        # PEFT refuses the dropout that is its default.
        *(["--lora_dropout 0", f"--lora_target_parameters {shlex.join(parameters)}"] if parameters else []),
        "--lora_target_modules " + shlex.join([targets] if isinstance(targets, str) else targets),
    ]
    return " \\\n".join(flags) + "\n", placement.adapted(Targeting(targets, parameters))
