"""`plop score`: NFN of every module type of a model on a task's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plop_cli.cli import options
from plop_cli.cli.cells import scored_cells
from plop_cli.cli.console import fail, note, out, print_json, warn
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.groups import expanding
from plop_cli.models.options import Loading

if TYPE_CHECKING:
    from plop_cli.runs.grid import Cell
    from plop_registry import Run


@expanding(scoring=options.scoring, loading=options.loading)
def score(
    *,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Hub ids (org/name or org/name@revision), folders, .gguf files, or [bold]demo[/bold].",
            show_default=False,
        ),
    ],
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="A task; repeat it for several ([bold]plop tasks[/bold] lists them)."),
    ] = None,
    scoring: options.Scoring,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Stop once the recommended set is sure, after 8, 16, 32, … texts, --samples at most.",
        ),
    ] = False,
    confidence: options.Confidence = 0.99,
    loading: Loading,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="TOWER", help="Score this tower of a multimodal model too (vision), if texts reach it."),
    ] = None,
    nfn_map: options.Map = False,
    by: options.By = options.Rows.type,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    list_modules: Annotated[
        bool, typer.Option("--list-modules", help="Show what would be scored and what not; no weights are loaded.")
    ] = False,
    registry: RegistryOption = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", "--force", help="Score anew what the registry already has.")
    ] = False,
) -> None:
    """Score MODELs on TASKs: one forward pass each, NFN by module type, lowest first.

    LoRA belongs into the types marked with ●. Every run is kept, and answered from the registry when asked for again.

    Example: [bold]plop score demo --task sample/math --map[/bold]
    """
    if list_modules:
        _list_modules(models, loading, include or [], json=json)
        return
    if not tasks:
        raise typer.BadParameter("give at least one, such as --task math or --task sample/math", param_hint="--task")
    from plop_cli.runs.grid import Request
    from plop_registry import Registry

    request = Request(
        **scoring,
        include=tuple(include or ()),
        loading=loading,
        force=rescore,
        until=confidence if until_decided else None,
    )
    cells = []
    with Registry(registry) as store:
        for cell in scored_cells(models, tasks, request, store):
            cells.append(cell)
            _say(cell, alone=len(models) * len(tasks) == 1)
            if cell.run and not json:
                _show(cell.run, by=by.value, nfn_map=nfn_map)
    runs = [cell.run.to_dict(cached=cell.cached) for cell in cells if cell.run]
    failed = [cell for cell in cells if cell.error]
    if json:
        print_json(runs[0] if len(runs) == 1 and len(models) * len(tasks) == 1 else runs)
    if failed:
        if len(failed) > 1 or runs:
            names = ", ".join(f"{cell.model} on {cell.task}" for cell in failed)
            fail(f"{len(failed)} of {len(failed) + len(runs)} failed: {names}")
        raise typer.Exit(1)


def _say(cell: Cell, *, alone: bool) -> None:
    """Tell on stderr why a cell failed, and what to mind about its run."""
    if cell.error:
        fail(cell.error if alone else f"{cell.model} on {cell.task}: {cell.error}")
    for warning in cell.run.warnings if cell.run else ():
        warn(warning)
    if cell.cached:
        note(f"{cell.model} on {cell.task} is answered from the registry; --rescore scores anew")


def _show(run: Run, *, by: str, nfn_map: bool) -> None:
    from plop_cli.tables.run import nfn_map as map_table
    from plop_cli.tables.run import run_table

    out().print(run_table(run, by=by))
    if nfn_map:
        out().print(map_table(run))


def _list_modules(models: list[str], loading: Loading, include: list[str], *, json: bool) -> None:
    from plop_cli.models.loading import skeleton
    from plop_cli.models.source import identify
    from plop_cli.network.modules import linear_modules
    from plop_cli.tables.catalogue import modules_dict, modules_table

    documents = []
    for model in models:
        source = identify(model, loading)
        modules, skipped = linear_modules(skeleton(source, loading), include)
        if json:
            documents.append(modules_dict(model, modules, skipped))
        else:
            out().print(modules_table(model, modules, skipped))
    if json:
        print_json(documents[0] if len(documents) == 1 else documents)
