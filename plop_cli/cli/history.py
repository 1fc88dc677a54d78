"""`plop history`: the runs in the registry, newest first."""

from __future__ import annotations

from typing import Annotated

import typer

from plop_cli.cli.console import note
from plop_cli.cli.filters import Filters, RegistryOption, whole
from plop_cli.cli.filters import filters as filter_options
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import expanding


@expanding(filters=filter_options)
def history(
    filters: Filters,
    limit: Annotated[
        int, typer.Option("--limit", "-n", parser=whole(1), metavar="N", help="How many runs at most.")
    ] = 20,
    format: FormatOption = Format.table,
    full: Annotated[bool, typer.Option("--full", help="All of each run, modules too, as JSON or JSON lines.")] = False,
    registry: RegistryOption = None,
) -> None:
    """List runs, newest first; the runs of one model on one task by checkpoint, the last first.

    Example: [bold]plop history --model 'org/*' --task sample/math --since 7d[/bold]
    """
    from plop_cli.runs import selection
    from plop_cli.tables import rows
    from plop_cli.tables.history import history_grid, history_table
    from plop_registry import Registry

    if full and format not in (Format.json, Format.jsonl):
        raise typer.BadParameter("is of JSON; give --format json or jsonl with it", param_hint="--full")
    with Registry(registry) as store:
        wanted = any(value is not None for value in filters.values())
        runs = selection.find_runs(store, filters, limit=limit + 1) if wanted else store.runs(limit=limit + 1)
        if not runs:
            note(f"no runs yet in {store.url}; plop score adds them")
    if len(runs) > limit:
        note(f"older runs are not shown (--limit {limit})")
    runs = selection.newest_first(runs[:limit])
    types = selection.types_of(runs, filters["type"] or "*")

    def objects() -> list[rows.Row]:
        if not full:
            return [rows.summary(run, types) for run in runs]
        with Registry(registry) as store:
            return [run.to_dict() for run in store.with_modules(runs)]

    emit(
        format,
        table=lambda width: history_table(runs, types, width=width),
        document=objects,
        objects=objects,
        rows=lambda: rows.history_rows(runs, types),
        markdown=lambda: rows.to_markdown(history_grid(runs, types)),
    )
