"""`--format`: one result as a table for people, or as JSON, JSON lines, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from plop_cli.cli import panels
from plop_cli.cli.console import out, print_json, print_rows, shows_unicode
from plop_cli.tables.rows import Row, to_csv, to_jsonl, to_markdown

if TYPE_CHECKING:
    from rich.console import RenderableType


class Format(StrEnum):
    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    md = "md"


FormatOption = Annotated[Format, panels.output("--format", "-f", help="How to print it.")]


def emit(
    format: Format,
    *,
    table: Callable[[int], RenderableType] = lambda width: "",
    document: Callable[[], object],
    rows: Callable[[], Sequence[Row]],
    objects: Callable[[], Sequence[Row]] | None = None,
    markdown: Callable[[], str] | None = None,
) -> None:
    """Print a result on stdout, making only the form that is asked for.

    Args: `table` is given the width of the terminal; `document` is for JSON, `rows` for CSV. JSON lines and Markdown
    are made of `rows` too, unless `objects` and `markdown` are given.
    """
    if format is Format.table:
        out().print(table(out().width))
    elif format is Format.json:
        print_json(document())
    elif format is Format.jsonl:
        print_rows(to_jsonl((objects or rows)(), ascii=not shows_unicode()))
    elif format is Format.csv:
        print_rows(to_csv(rows()))
    else:
        print_rows(markdown() if markdown else to_markdown(rows()))
