"""ms-swift: the flags of `swift sft`, `swift rlhf` … (swift/arguments/tuner_args.py). LoRA is its default tuner."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from plop_cli.placement.targets import Targeting

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


def write(placement: Placement) -> tuple[str, list[str]]:
    """Flags to add to a command."""
    targets = placement.targets
    flags = [
        f"--lora_rank {placement.rank}",
        f"--lora_alpha {placement.alpha}",
        *(["--use_rslora true"] if placement.rslora else []),
        f"--target_regex {shlex.quote(targets)}"
        if isinstance(targets, str)
        else f"--target_modules {shlex.join(targets)}",
    ]
    return " \\\n".join(flags) + "\n", placement.adapted(Targeting(targets))
