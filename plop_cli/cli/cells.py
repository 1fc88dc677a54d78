"""The grid as commands run it. Their process is theirs alone, so they may set what the library has no business with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plop_cli.cli.console import note

if TYPE_CHECKING:
    from plop_cli.runs.grid import Cell
    from plop_cli.runs.jobs import Request
    from plop_registry import Registry


def scored_cells(models: Sequence[str], tasks: Sequence[str], request: Request, registry: Registry) -> Iterator[Cell]:
    """`score_grid` with notes on stderr, torchrun's processes, and a malloc that keeps memory."""
    from plop_cli.models.memory import keep_freed
    from plop_cli.processes import join
    from plop_cli.runs.grid import score_grid

    if request.loading.offload is None:
        keep_freed()
    return score_grid(models, tasks, request, registry, note=note, join=join)
