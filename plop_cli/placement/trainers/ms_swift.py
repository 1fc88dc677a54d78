"""ms-swift: the flags of `swift sft`, `swift rlhf` … (swift/arguments/tuner_args.py). LoRA is its default tuner.

Without targets it takes all linear modules, so that no module at all is a regex that matches none.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from plop_cli.placement.targets import NOTHING, Targeting

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ("CAUSAL_LM", "SEQ_CLS")
FILE = "ms-swift.txt"


def write(placement: Placement) -> tuple[str, list[str]]:
    """Flags to add to a command."""
    targets, parameters = placement.targeting
    targets = targets or NOTHING
    flags = [
        f"--lora_rank {placement.rank}",
        f"--lora_alpha {placement.alpha}",
        *(["--use_rslora true"] if placement.rslora else []),
        f"--target_regex {shlex.quote(targets)}"
        if isinstance(targets, str)
        else f"--target_modules {shlex.join(targets)}",
        # PEFT refuses the dropout that is its default.
        *(["--lora_dropout 0", f"--target_parameters {shlex.join(parameters)}"] if parameters else []),
        *(["--task_type seq_cls"] if placement.task_type == "SEQ_CLS" else []),
    ]
    return " \\\n".join(flags) + "\n", placement.adapted(Targeting(targets, parameters))
