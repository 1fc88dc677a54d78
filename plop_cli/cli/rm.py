"""`plop rm`: remove runs and races from the registry."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from plop_cli.cli import completion, panels
from plop_cli.cli.console import err, say
from plop_cli.cli.filters import Filters, RegistryOption
from plop_cli.cli.filters import filters as filter_options
from plop_cli.cli.groups import expanding
from plop_cli.errors import PlopError
from plop_cli.printable import printable
from plop_cli.words import counted


@expanding(filters=filter_options)
def rm(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=completion.runs,
            help="Ids, their first digits, [bold]latest[/bold], names, or MODEL/TASK.",
        ),
    ] = None,
    *,
    filters: Filters,
    dry_run: Annotated[bool, panels.what("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, panels.what("--yes", "-y", help="Do not ask.")] = False,
    registry: RegistryOption = None,
) -> None:
    """Remove runs and races for good, asking first: those that are named, or all runs that fit the filters of history.

    Examples: [bold]plop rm 3f2a1b4c 9d0e[/bold], [bold]plop rm --model 'run' --until 30d --dry-run[/bold]
    """
    from plop_cli.runs.selection import find_runs, race_meant
    from plop_cli.tables.history import history_table
    from plop_cli.tables.race import races_table
    from plop_registry import Registry

    given = [name for name, value in filters.items() if value is not None]
    if bool(runs) == bool(given):
        raise typer.BadParameter("give RUNs to remove, or filters, one of the two", param_hint="RUN")
    with Registry(registry) as store:
        meant = {each: race_meant(store, each) for each in runs or ()}
        races = dict.fromkeys(race for race in meant.values() if race)
        named = dict.fromkeys(store.resolve(each) for each, race in meant.items() if not race) if runs else None
        # Damaged ones can be removed too: they are told, as everywhere, but have no row.
        found = find_runs(store, filters) if named is None else [run for run in store.runs() if run.id in named]
        ids = [run.id for run in found] if named is None else list(named)
        raced = [race for race in store.races.all() if race.id in races]
        if dry_run or not yes:
            err().print(history_table(found, [], width=err().width))
            err().print(races_table(raced, width=err().width))
        if not dry_run and not yes:
            if not sys.stdin.isatty():
                raise PlopError("nobody can be asked whether to remove these; give --yes")
            also = f" and {counted(len(races), 'race')}" if races else ""
            typer.confirm(printable(f"Remove {len(ids)} of the runs{also} in {store.url}?"), abort=True, err=True)
        names = {run.id: f" {run.model_name}/{run.task_name}" for run in found}
        names |= {race.id: f" {race.model_id} on {race.data_id}" for race in raced}
        removed = 0 if dry_run else store.remove(ids) + store.races.remove(races)
    for each in (*ids, *races):
        say(f"{each}{names.get(each, '')}")
    also = f" and {counted(len(races), 'race')}" if races else ""
    say(f"{counted(len(ids), 'run')}{also} would be removed" if dry_run else f"{removed} removed")
