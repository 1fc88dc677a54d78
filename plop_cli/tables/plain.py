"""What all tables share: their look, and how they write a model, a standard error and a choice."""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table

from plop_cli.printable import short
from plop_registry import Run

CHOSEN = "●"
"""Marks what gets LoRA."""


class _Short(Table):
    """A table that cuts very long names, which would take seconds to lay out."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*map(_cut, cells), **options)


def _cut(cell: Any) -> Any:
    return "\n".join(map(short, cell.split("\n"))) if isinstance(cell, str) else cell


def plain_table(*headers: str) -> Table:
    """A plain table; a header that begins with > aligns its column to the right."""
    table = _Short(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", title_style="bold")
    for header in headers:
        right = header.startswith(">")
        name = short(header.removeprefix(">"))
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def model_name(run: Run) -> str:
    """The model as its user would name it."""
    return short(f"{run.model_name}@{run.label_name}" if run.label_name else run.model_name)


def plus_minus(value: float | None) -> str:
    """A standard error, or a dash where one sample tells none."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def percent(value: float) -> str:
    """A share, or a dash where it cannot be told."""
    return "–" if math.isnan(value) else f"{value:.1%}"
