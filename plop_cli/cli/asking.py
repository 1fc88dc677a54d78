"""`plop history --sql`: the rows of a query, written as they are read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from plop_cli.cli.console import note, out, print_rows, put, shows_unicode
from plop_cli.cli.formats import Format
from plop_cli.tables.answer import answer_table, batches, plain
from plop_cli.tables.rows import Row, to_csv, to_jsonl, to_markdown
from plop_registry import Registry

_SHOWN = 1_000
"""Rows that are laid out as a table, which must be known before its first line."""


def answer(sql: str, format: Format, timeout: float, registry: str | None) -> None:
    """Print the answer to a query. What is not a table is written row after row, however many there are."""
    with Registry(registry) as store, store.query(sql, timeout=timeout) as found:
        rows = (dict(zip(found.columns, map(plain, row), strict=True)) for row in found.rows)
        if format is Format.table:
            shown = list(islice(rows, _SHOWN))
            out().print(answer_table(found.columns, shown, out().width))
            if next(rows, None) is not None:
                note(f"the first {_SHOWN:,} rows are shown; --format csv, jsonl, json or md gives all")
        elif format is Format.json:
            _array(rows)
        elif format is Format.jsonl:
            for some in batches(rows):
                print_rows(to_jsonl(some, ascii=not shows_unicode()))
        else:
            _lines(found.columns, rows, to_csv if format is Format.csv else to_markdown)


def _array(rows: Iterable[Row]) -> None:
    put("[")
    opened = False
    for some in batches(rows):
        lines = to_jsonl(some, ascii=not shows_unicode()).splitlines()
        print_rows((",\n  " if opened else "\n  ") + ",\n  ".join(lines))
        opened = True
    put("\n]\n" if opened else "]\n")


def _lines(columns: Iterable[str], rows: Iterable[Row], written: Any) -> None:
    """The head comes once, though there were no row."""
    head: str = written([dict.fromkeys(columns)])
    before = 1 if written is to_csv else 2
    print_rows("".join(head.splitlines(keepends=True)[:before]))
    for some in batches(rows):
        text: str = written(some)
        print_rows(text[_after(text, before) :])


def _after(text: str, lines: int) -> int:
    at = 0
    for _ in range(lines):
        at = text.index("\n", at) + 1
    return at
