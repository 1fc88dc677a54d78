"""`plop export`: runs and races into a file, to be imported elsewhere or read by other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from plop_cli.cli import panels
from plop_cli.cli.console import tell
from plop_cli.cli.filters import Filters, Limit, RegistryOption
from plop_cli.cli.filters import filters as filter_options
from plop_cli.cli.groups import expanding
from plop_cli.cli.options import Overwrite


class Kind(StrEnum):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@expanding(filters=filter_options)
def export(
    output: Annotated[
        Path, panels.output("--output", "-o", metavar="FILE", help="Where to write.", show_default=False)
    ],
    filters: Filters,
    limit: Limit = None,
    format: Annotated[
        Kind | None,
        panels.output(
            "--format",
            "-f",
            help="Default: what FILE ends in. jsonl holds everything and can be imported; csv and parquet have a row "
            "for each type of each run.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    registry: RegistryOption = None,
) -> None:
    """Write runs and races into a file.

    Example: [bold]plop export --since 7d -o runs.jsonl[/bold], and elsewhere [bold]plop import runs.jsonl[/bold]
    """
    from plop_cli.runs.exchange import write_runs
    from plop_cli.words import counted
    from plop_registry import Registry

    with Registry(registry) as store:
        count, races = write_runs(store, output, filters, limit=limit, kind=format and format.value, force=overwrite)
    also = f" and {counted(races, 'race')}" if races else ""
    tell(f"{output}: {count} runs{also}")
