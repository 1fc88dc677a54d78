"""`plop history`: the runs, or the races, in the registry, newest first."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from plop_cli.cli import panels
from plop_cli.cli.console import note
from plop_cli.cli.filters import Filters, RegistryOption, whole
from plop_cli.cli.filters import filters as filter_options
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import expanding


class Kind(StrEnum):
    run = "run"
    race = "race"


@expanding(filters=filter_options)
def history(
    filters: Filters,
    limit: Annotated[
        int | None,
        panels.runs("--limit", "-n", parser=whole(1), metavar="N", help="How many runs at most. Default: 20."),
    ] = None,
    kind: Annotated[Kind, panels.what(help="What to list: runs, or races.")] = Kind.run,
    format: FormatOption = Format.table,
    sql: Annotated[
        str | None,
        panels.what(metavar="QUERY", help="A SELECT of your own over runs, type_scores, module_scores and races."),
    ] = None,
    timeout: Annotated[
        float, panels.what(min=0.001, max=1e6, metavar="SECONDS", help="How long the database may work on --sql.")
    ] = 60.0,
    full: Annotated[bool, panels.output("--full", help="All of each run, modules too, as JSON or JSON lines.")] = False,
    registry: RegistryOption = None,
) -> None:
    """List runs, or races, newest first; the runs of one model on one task by checkpoint, the last first.

    Example: [bold]plop history --model 'org/*' --task sample/math --since 7d[/bold]
    """
    from plop_cli.cli.asking import answer
    from plop_cli.runs import selection
    from plop_cli.tables import rows
    from plop_cli.tables.history import history_grid, history_table
    from plop_registry import Registry

    if sql is not None:
        if full or limit or kind is Kind.race or any(value is not None for value in filters.values()):
            raise typer.BadParameter("stands alone; say it in the query (WHERE, LIMIT)", param_hint="--sql")
        answer(sql, format, timeout, registry)
        return
    limit = limit or 20
    if full and (kind is Kind.race or format not in (Format.json, Format.jsonl)):
        raise typer.BadParameter("is of runs in JSON; give --format json or jsonl with it", param_hint="--full")
    if kind is Kind.race:
        _races(filters, limit, format, registry)
        return
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


def _races(filters: Filters, limit: int, format: Format, registry: str | None) -> None:
    from plop_cli.tables import rows
    from plop_cli.tables.race import races_grid, races_rows, races_table
    from plop_registry import Registry

    with Registry(registry) as store:
        races = store.races.all(**filters, limit=limit)
        if not races:
            note(f"no such races in {store.url}; plop race adds them")
    emit(
        format,
        table=lambda width: races_table(races, width=width),
        document=lambda: races_rows(races),
        rows=lambda: races_rows(races),
        markdown=lambda: rows.to_markdown(races_grid(races)),
    )
