"""Tables that fit into a terminal: what matters least gives way, in a given order, and no name is broken in two.

fitted(["run", ">NFN", "bar"], [Row({"run": "3f2a", "NFN": "0.6", "bar": "━━"})], width=20, give=[drop("bar")])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from plop_cli.tables.plain import plain_table

WIDE = 10_000
"""A width in which everything has room."""

_LEAST = 8  # characters that are left of a name


@dataclass(frozen=True)
class Row:
    """Cells by header, and the style of the row. A cell that is missing is empty."""

    cells: Mapping[str, str | Text]
    style: str = ""


@dataclass(frozen=True)
class Step:
    """How a column gives way: it goes, is wrapped between words, or has its cells cut in the middle."""

    how: Literal["drop", "wrap", "cut"]
    header: str


def drop(*headers: str) -> list[Step]:
    """Columns that go, one by one."""
    return [Step("drop", header) for header in headers]


def wrap(*headers: str) -> list[Step]:
    """Columns that are wrapped between words."""
    return [Step("wrap", header) for header in headers]


def cut(*headers: str) -> list[Step]:
    """Columns whose cells lose their middles, as much as is needed."""
    return [Step("cut", header) for header in headers]


def fitted(headers: Sequence[str], rows: Sequence[Row], width: int, give: Sequence[Step] = ()) -> Table:
    """A table of these columns (as for `plain_table`), made narrower step by step until it fits into `width`."""
    table = _table(headers, rows, {})
    taken: dict[str, Step] = {}
    for step in give:
        if width_of(table) <= width:
            break
        taken[step.header] = step
        table = _table(headers, rows, taken, width)
    return table


def width_of(table: Table) -> int:
    """How wide a table is where it has room."""
    console = Console(width=WIDE, markup=False, emoji=False)
    return Measurement.get(console, console.options, table).maximum


def widest(tables: Sequence[Table], width: int) -> Table:
    """The first of these tables that is not wider than `width`, else the last."""
    return next((table for table in tables if width_of(table) <= width), tables[-1])


def shortened(text: str, longest: int) -> str:
    """`text`, or as much of both its ends as `longest` characters hold."""
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _table(headers: Sequence[str], rows: Sequence[Row], taken: Mapping[str, Step], width: int = WIDE) -> Table:
    names = {header.removeprefix(">"): header for header in headers}
    how = {name: taken[name].how for name in names if name in taken}
    left = [name for name in names if how.get(name) != "drop"]
    narrow = {name: _narrowest(name, rows, how[name]) for name in left if name in how}
    while True:
        table = plain_table(*(names[name] for name in left))
        for name, column in zip(left, table.columns, strict=True):
            column.no_wrap, column.overflow = how.get(name) != "wrap", "ellipsis"
            column.width = narrow.get(name)
        for row in rows:
            table.add_row(*(_cell(row, name, narrow.get(name), how.get(name)) for name in left), style=row.style)
        # What gave way has what room there is.
        room = width - width_of(table)
        wider = {name: min(_natural(name, rows), size + room) for name, size in list(narrow.items())[-1:] if room > 0}
        if not wider or wider.items() <= narrow.items():
            return table
        narrow |= wider


def _cell(row: Row, name: str, size: int | None, how: str | None) -> str | Text:
    cell = row.cells.get(name, "")
    return shortened(cell, size) if how == "cut" and size and isinstance(cell, str) else cell


def _natural(name: str, rows: Sequence[Row]) -> int:
    return max(len(name), *(len(line) for row in rows for line in str(row.cells.get(name, "")).split("\n")))


def _narrowest(name: str, rows: Sequence[Row], how: str) -> int:
    words = [word for row in rows for word in str(row.cells.get(name, "")).split()]
    longest = max(map(len, [name, *words]))
    return longest if how == "wrap" else min(max(_LEAST, len(name)), longest)
