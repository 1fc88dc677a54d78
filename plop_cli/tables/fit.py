"""Tables that fit into a terminal: what matters least gives way, in a given order, and no name is broken in two.

fitted(["run", ">NFN", "bar"], [Row({"run": "3f2a", "NFN": "0.6", "bar": "━━"})], width=20, give=[drop("bar")])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from plop_cli.printable import short
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
    natural = {header.removeprefix(">"): _widest(header, rows) for header in headers}
    sizes, how = dict(natural), dict[str, str]()
    for step in give:
        if _total(sizes) <= width:
            break
        if step.how == "drop":
            sizes.pop(step.header, None)
        elif step.header in sizes:
            how[step.header] = step.how
            sizes[step.header] = min(natural[step.header], _least(step, rows))
    for name in reversed([name for name in how if name in sizes]):  # what gave way has what room there is
        sizes[name] = min(natural[name], sizes[name] + max(0, width - _total(sizes)))
    return _table([header for header in headers if header.removeprefix(">") in sizes], rows, sizes, how)


def width_of(headers: Sequence[str], rows: Sequence[Row]) -> int:
    """How wide a table of these columns is where it has room."""
    return _total({header: _widest(header, rows) for header in headers})


def shortened(text: str, longest: int) -> str:
    """`text`, or as much of both its ends as `longest` characters hold."""
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _table(headers: Sequence[str], rows: Sequence[Row], sizes: Mapping[str, int], how: Mapping[str, str]) -> Table:
    table = plain_table(*headers)
    names = [header.removeprefix(">") for header in headers]
    for name, column in zip(names, table.columns, strict=True):
        column.no_wrap, column.overflow = how.get(name) != "wrap", "ellipsis"
        column.width = sizes[name] if name in how else None
    for row in rows:
        cells = {name: row.cells.get(name, "") for name in names}
        less = {name: shortened(str(cells[name]), sizes[name]) for name in names if how.get(name) == "cut"}
        table.add_row(*(cells | less).values(), style=row.style)
    return table


def _total(sizes: Mapping[str, int]) -> int:
    """Of columns and what `plain_table` puts between them."""
    return sum(sizes.values()) + 3 * len(sizes) + 1


def _widest(header: str, rows: Sequence[Row]) -> int:
    name = header.removeprefix(">")
    cells = [row.cells.get(name, "") for row in rows]
    lines = {name, *(short(line) for cell in cells if isinstance(cell, str) for line in cell.split("\n"))}
    lines |= {line for cell in cells if not isinstance(cell, str) for line in cell.plain.split("\n")}
    return max(map(cell_len, lines))


def _least(step: Step, rows: Sequence[Row]) -> int:
    if step.how == "cut":
        return max(_LEAST, len(step.header))
    words = [word for row in rows for word in str(row.cells.get(step.header, "")).split()]
    return max(map(cell_len, [step.header, *words]))
