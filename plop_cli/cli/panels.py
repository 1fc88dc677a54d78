"""The panels of `--help`: which option stands in which, and the order that they and the commands are listed in.

Annotated[int, texts("--samples", "-n", help="Texts to draw.")]       # as typer.Option, in the panel Texts
"""

from __future__ import annotations

from functools import partial
from typing import Any

from typer import Option
from typer.core import TyperCommand

PANELS = ("What", "Which runs", "Texts", "Adapters", "Training", "Model and memory", "Output")
"""In their order, which is that of use."""

what, runs, texts, adapters, training, loading, output = (partial(Option, rich_help_panel=panel) for panel in PANELS)


class Command(TyperCommand):
    """A command that lists its options panel by panel; within one they stand as they are declared."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments, then options; `--help` comes last."""
        params = super().get_params(ctx)
        params[-1].rich_help_panel = PANELS[-1]  # type: ignore[attr-defined]  # --help, which click makes
        return sorted(params, key=_place)


def _place(param: Any) -> int:
    return PANELS.index(param.rich_help_panel) if param.rich_help_panel in PANELS else -1
