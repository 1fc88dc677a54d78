"""`plop registry`: the registry itself: where it is, what it holds, whether it is sound."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from plop_cli.cli.console import say
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import Commands

commands = Commands(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Where the registry is, what it holds, and whether it is sound.",
)


@commands.command()
def path(registry: RegistryOption = None) -> None:
    """Print the path or URL of the registry, without its password."""
    from plop_registry import Registry

    say(Registry(registry).url)


@commands.command()
def status(format: FormatOption = Format.table, registry: RegistryOption = None) -> None:
    """Tell how many runs, models and tasks there are, how large the registry is, and of which schema."""
    from plop_cli.tables.history import status_table
    from plop_registry import Registry

    with Registry(registry) as store:
        told = store.status()
    emit(format, table=lambda width: status_table(told), document=lambda: told, rows=lambda: [told])


@commands.command()
def upgrade(registry: RegistryOption = None) -> None:
    """Make the registry, or bring it to the newest schema, as every command does by itself."""
    from plop_registry import Registry

    with Registry(registry) as store:
        say(f"{store.url} has schema {store.upgrade()}")


@commands.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.", show_default=False)],
    registry: RegistryOption = None,
) -> None:
    """Copy an SQLite registry as it is now, while others go on writing."""
    from plop_cli import files
    from plop_registry import Registry

    with Registry(registry) as store:
        if not os.path.lexists(files.expanded(str(file))):  # what exists the registry refuses
            files.check_new(files.expanded(str(file)), force=False)
        store.backup(file)
        say(f"{store.url} is copied to {file}")


@commands.command()
def check(registry: RegistryOption = None) -> None:
    """Verify the database and every run in it: counts, aggregates, sample matrices, ids. Exit 1 where one is wrong."""
    from plop_registry import Registry

    with Registry(registry) as store:
        problems = store.check()
        for problem in problems:
            say(problem)
        if problems:
            raise typer.Exit(1)
        say(f"{store.status()['runs']} runs, all sound")
