"""`plop show`: everything about one run."""

from __future__ import annotations

from typing import Annotated

import typer

from plop_cli.cli import filters
from plop_cli.cli.app import app
from plop_cli.cli.console import out, say
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.score import By
from plop_cli.printable import short


@app.command()
def show(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="An id, its first digits, [bold]latest[/bold], or MODEL/TASK.", show_default=False
        ),
    ],
    by: Annotated[By, typer.Option(help="What the rows of the table are.")] = By.type,
    nfn_map: Annotated[bool, typer.Option("--map", help="Show the NFN-map too: layers by types.")] = False,
    format: FormatOption = Format.table,
    registry: filters.Registry = None,
) -> None:
    """Show one run: its scores, what it was made of, and the command that would make it again.

    Example: [bold]plop show latest --by layer --map[/bold]
    """
    from plop_cli.runs.rerun import command
    from plop_cli.tables import rows
    from plop_cli.tables import run as run_tables
    from plop_cli.tables.history import details
    from plop_registry import Registry

    with Registry(registry) as store:
        found = store.get(run)
    emit(
        format,
        table=lambda width: run_tables.run_table(found, by=by.value),
        document=lambda: {**found.to_dict(), "command": command(found)},
        rows=lambda: rows.run_rows(found, by.value),
    )
    if format is Format.table:
        if nfn_map:
            out().print(run_tables.nfn_map(found))
        out().print(details(found))
        say(short(command(found), 20_000))  # in one line, to be copied
