"""`plop tasks`: what TASK can be."""

from __future__ import annotations

from plop_cli.cli.console import out


def tasks() -> None:
    """List the built-in tasks and what else TASK can be."""
    from plop_cli.tables.catalogue import tasks_table

    out().print(tasks_table(width=out().width))
