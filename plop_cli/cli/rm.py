"""`plop rm`: remove runs from the registry."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from plop_cli.cli.console import err, warn
from plop_cli.cli.filters import RegistryOption
from plop_cli.errors import PlopError
from plop_cli.printable import printable
from plop_registry import RegistryError

if TYPE_CHECKING:
    from plop_registry import Registry, Run


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
        doomed = dict.fromkeys(map(store.resolve, runs))
        if not yes:
            err().print(history_table(list(_sound(store, doomed)), [], width=err().width))
            if not sys.stdin.isatty():
                raise PlopError("nobody can be asked whether to remove these; give --yes")
            typer.confirm(printable(f"Remove {len(doomed)} of the runs in {store.url}?"), abort=True, err=True)
        removed = store.remove(doomed)
    typer.echo(f"{removed} removed")


def _sound(store: Registry, ids: Iterable[str]) -> Iterator[Run]:
    """Those of the runs that can be shown; damaged ones are named, and can be removed like the others."""
    for run_id in ids:
        try:
            yield store.get(run_id)
        except RegistryError as error:
            warn(str(error))
