"""What all tables share: their look, and how they write a model, a standard error and a choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from plop_registry import Run

CHOSEN = "●"
"""Marks what gets LoRA."""


def plain_table(*headers: str) -> Table:
    """A plain table; a header that begins with > aligns its column to the right."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", title_style="bold")
    for header in headers:
        right = header.startswith(">")
        table.add_column(header.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def widest(tables: Sequence[Table], width: int) -> Table:
    """The first of these tables that is not wider than `width`, else the last."""
    console = Console(width=10_000, markup=False, emoji=False)
    sizes = (Measurement.get(console, console.options, table).maximum for table in tables)
    return next((table for table, size in zip(tables, sizes, strict=True) if size <= width), tables[-1])


def model_name(run: Run) -> str:
    """The model as its user would name it."""
    return f"{run.model_id}@{run.model_label}" if run.model_label else run.model_id


def plus_minus(value: float | None) -> str:
    """A standard error, or a dash where one sample tells none."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
