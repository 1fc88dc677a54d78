"""`plop rm`: remove runs and races from the registry."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from plop_cli.cli.console import err
from plop_cli.cli.filters import RegistryOption
from plop_cli.errors import PlopError


def rm(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Ids, their first digits, [bold]latest[/bold], or MODEL/TASK.", show_default=False
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    registry: RegistryOption = None,
) -> None:
    """Remove runs and races for good, asking first.

    Example: [bold]plop rm 3f2a1b4c 9d0e[/bold]
    """
    from plop_cli.runs.selection import run_or_race
    from plop_cli.tables.history import history_table
    from plop_cli.tables.race import races_table
    from plop_registry import Race, Registry, Run

    with Registry(registry) as store:
        doomed = list({found.id: found for found in (run_or_race(store, run) for run in runs)}.values())
        doomed_runs = [found for found in doomed if isinstance(found, Run)]
        doomed_races = [found for found in doomed if isinstance(found, Race)]
        if not yes:
            err().print(history_table(doomed_runs, [], width=err().width))
            err().print(races_table(doomed_races))
            if not sys.stdin.isatty():
                raise PlopError("nobody can be asked whether to remove these; give --yes")
            typer.confirm(f"Remove {len(doomed)} of the runs in {store.url}?", abort=True, err=True)
        removed = store.remove(run.id for run in doomed_runs)
        removed += store.races.remove(race.id for race in doomed_races) if doomed_races else 0
    typer.echo(f"{removed} removed")
