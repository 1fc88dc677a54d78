"""`plop rm`: remove runs from the registry."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from plop_cli.cli.console import err, say
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
    """Remove runs for good, asking first.

    Example: [bold]plop rm 3f2a1b4c 9d0e[/bold]
    """
    from plop_cli.tables.history import history_table
    from plop_registry import Registry

    with Registry(registry) as store:
        doomed = list({run.id: run for run in map(store.get, runs)}.values())
        if not yes:
            err().print(history_table(doomed, [], width=err().width))
            if not sys.stdin.isatty():
                raise PlopError("nobody can be asked whether to remove these; give --yes")
            typer.confirm(f"Remove {len(doomed)} of the runs in {store.url}?", abort=True, err=True)
        removed = store.remove(run.id for run in doomed)
    say(f"{removed} removed")
