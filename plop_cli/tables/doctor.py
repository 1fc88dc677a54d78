"""What `plop doctor` found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from plop_cli.tables.fit import Row, fitted, wrap

_STYLES = {"ok": "", "warning": "yellow", "failed": "bold red"}


def doctor_table(rows: Sequence[dict[str, Any]], *, width: int) -> Table:
    """A line for each finding, its remedy behind it."""
    shown = [
        Row(
            {
                "": row["state"],
                "check": row["check"],
                "found": ": ".join(filter(None, (row["found"], row["remedy"]))),
            },
            _STYLES[row["state"]],
        )
        for row in rows
    ]
    return fitted(["", "check", "found"], shown, width, wrap("found"))
