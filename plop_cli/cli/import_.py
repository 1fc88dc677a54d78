"""`plop import`: runs and races that another registry exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plop_cli.cli.console import tell
from plop_cli.cli.filters import RegistryOption


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON lines of plop export.", show_default=False)],
    registry: RegistryOption = None,
) -> None:
    """Add exported runs and races to the registry: each run and each lap once, whatever the order, however often.

    A file with a damaged line is refused as a whole; the files before it are kept.

    Example: [bold]plop import laptop.jsonl server.jsonl[/bold]
    """
    from plop_cli.runs.exchange import read_runs
    from plop_registry import Registry

    with Registry(registry) as store:
        for file in files:
            added, known = read_runs(store, file)
            tell(f"{file}: {added} added, {known} known")
