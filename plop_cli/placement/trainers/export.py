"""A placement → the config of a trainer, proven to mean that placement.

    export(placement, "axolotl").text

One module per trainer. Its `TASKS` are PEFT's task types that it trains, and its `FILE` is how what it reads is
called. Its `write(placement)` returns the text, and which modules the trainer will adapt when it reads that text:
worked out against the model's own module names by the trainer's own rule. `export` holds it against what the placement
wants. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from plop_cli.errors import PlopError, no_such

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement

FORMATS = (
    "peft",
    "python",
    "axolotl",
    "llamafactory",
    "unsloth",
    "torchtune",
    "trl",
    "ms-swift",
    "verl",
    "mlx-lm",
    "nemo-automodel",
)


class Export(NamedTuple):
    """The config, the modules that it adapts, and where that is not quite the placement, a sentence that says so.

    `file` is its usual name, `remark` what users of the trainer should know.
    """

    text: str
    matched: list[str]
    off: str | None
    file: str
    remark: str | None = None


def export(placement: Placement, format: str, *, approximate: bool = False) -> Export:
    """The config of one trainer (`FORMATS`).

    Raises PlopError where the trainer would adapt nothing, or other modules than the placement's; with `approximate`,
    what comes nearest is written all the same.
    """
    if format not in FORMATS:
        raise no_such("format", format, FORMATS)
    trainer = import_module(f"plop_cli.placement.trainers.{format.replace('-', '_')}")
    if trainer.TASKS and placement.task_type not in trainer.TASKS:
        raise PlopError(
            f"{format} takes every model for {' or '.join(trainer.TASKS)}, and {placement.architecture} is for "
            f"{placement.task_type or 'none of PEFT’s tasks'}; choose the format peft or python"
        )
    text, matched = trainer.write(placement)
    wanted = placement.matched_modules
    if not matched:
        raise PlopError(f"{format} would adapt no module at all; choose other types")
    off = _difference(format, [name for name in matched if name not in wanted], set(wanted) - set(matched))
    if off and not approximate:
        raise PlopError(f"{off}; choose other types, another format, or --approximate to have it all the same")
    return Export(text, matched, off, trainer.FILE, getattr(trainer, "REMARK", None))


def _difference(format: str, more: Sequence[str], less: set[str]) -> str | None:
    parts = [
        f"{verb} {len(names)} modules such as {min(names)}"
        for verb, names in (("would also adapt", more), ("would leave out", less))
        if names
    ]
    return f"{format} cannot say this placement: it {' and '.join(parts)}" if parts else None
