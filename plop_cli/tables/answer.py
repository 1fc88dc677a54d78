"""The answer to a user's own query: values of either database as plain ones, and a table of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from rich.table import Table

from plop_cli.printable import short
from plop_cli.tables import fit
from plop_cli.tables.rows import Row

_AT_ONCE = 1_000


def plain(value: Any) -> Any:
    """What JSON can say of a value: moments in UTC, JSON as text, bytes as hex digits; None for what is not finite."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, dict | list):  # PostgreSQL's JSON, which is text in SQLite
        return json.dumps(value, default=str)
    return value.isoformat() if isinstance(value, date) else str(value)


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows by the thousand."""
    rest = iter(rows)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def answer_table(columns: Sequence[str], rows: Sequence[Row], width: int) -> Table:
    """A table of rows; numbers to the right, three digits after the point. Texts are cut where there is no room."""
    numbers = {name for name in columns if any(_number(row[name]) for row in rows)}
    headers = [f">{name}" if name in numbers else name for name in columns]
    cells = [fit.Row({name: _cell(value) for name, value in row.items()}) for row in rows]
    return fit.fitted(headers, cells, width, give=fit.cut(*(name for name in columns if name not in numbers)))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else short(str(value))
