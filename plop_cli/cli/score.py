"""`plop score`: NFN of every module type of a model on a task's texts."""

from __future__ import annotations

from dataclasses import replace
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plop_cli.cli import completion, options, panels
from plop_cli.cli.cells import scored_cells
from plop_cli.cli.console import fail, out, warn
from plop_cli.cli.console import note as remark
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import expanding
from plop_cli.models.options import Loading
from plop_cli.processes import rank
from plop_cli.progress import says

if TYPE_CHECKING:
    from plop_cli.runs.grid import Cell
    from plop_registry import Registry, Run


@expanding(scoring=options.scoring, loading=options.loading)
def score(
    *,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.models,
            help="Hub ids (org/name or org/name@revision), folders, .gguf files, or [bold]demo[/bold].",
            show_default=False,
        ),
    ],
    tasks: Annotated[
        list[str] | None,
        panels.what(
            "--task",
            "-t",
            autocompletion=completion.tasks,
            help="A task; repeat it for several ([bold]plop tasks[/bold] lists them).",
        ),
    ] = None,
    loading: Loading,
    scoring: options.Scoring,
    until_decided: Annotated[
        bool,
        panels.what(
            "--until-decided",
            help="Stop once the recommended set is sure, after 8, 16, 32, … texts, --samples at most.",
        ),
    ] = False,
    confidence: options.Confidence = 0.99,
    opinions: Annotated[
        bool,
        panels.what("--opinions", help="Keep what EVA and ShortGPT say of the same activations; docs/opinions.md."),
    ] = False,
    include: Annotated[
        list[str] | None,
        panels.what(metavar="TOWER", help="Score this tower of a multimodal model too (vision), if texts reach it."),
    ] = None,
    format: FormatOption = Format.table,
    json: Annotated[bool, panels.output("--json", help="The same as --format json.")] = False,
    nfn_map: options.Map = False,
    by: options.By = options.Rows.type,
    list_modules: Annotated[
        bool, panels.what("--list-modules", help="Show what would be scored and what not; no weights are loaded.")
    ] = False,
    registry: RegistryOption = None,
    rescore: Annotated[
        bool, panels.what("--rescore", "--force", help="Score anew what the registry already has.")
    ] = False,
    name: options.Name = None,
    note: options.Note = None,
) -> None:
    """Score MODELs on TASKs: one forward pass each, NFN by module type, lowest first.

    LoRA belongs into the types marked with ●. Every run is kept, and answered from the registry when asked for again.

    Example: [bold]plop score demo --task sample/math --map[/bold]
    """
    if json and format not in (Format.table, Format.json):
        raise typer.BadParameter(f"--json and --format {format} cannot both be meant", param_hint="--format")
    format = Format.json if json else format
    if list_modules:
        _list_modules(models, loading, include or [], format)
        return
    if not tasks:
        raise typer.BadParameter("give at least one, such as --task math or --task sample/math", param_hint="--task")
    from plop_cli.runs.jobs import Request
    from plop_registry import Registry

    request = Request(
        **scoring,
        include=tuple(include or ()),
        loading=loading,
        force=rescore,
        until=confidence if until_decided else None,
        opinions=opinions,
    )
    cells, alone = [], len(models) * len(tasks) == 1
    with Registry(registry) as store:
        for cell in scored_cells(models, tasks, request, store):
            cells.append(_remarked(cell, store, name, note))
            _say(cells[-1], alone=alone)
            if cells[-1].run and format is Format.table:
                _show(cells[-1].run, by=by.value, nfn_map=nfn_map)
    scored = [cell for cell in cells if cell.run]
    if format is not Format.table:
        _print(scored, format, by=by.value, alone=alone)
    if opinions and scored:
        _say_where_opinions_are(scored[0], loading, store)
    failed = [cell for cell in cells if cell.error]
    if failed:
        if len(failed) > 1 or scored:
            names = ", ".join(f"{cell.model} on {cell.task}" for cell in failed)
            fail(f"{len(failed)} of {len(failed) + len(scored)} failed: {names}")
        raise typer.Exit(1)


def _remarked(cell: Cell, store: Registry, name: str | None, note: str | None) -> Cell:
    """The cell whose run, new or known, is called so. Of several processes the first alone writes."""
    said: dict[str, Any] = {key: text for key, text in (("name", name), ("note", note)) if text is not None}
    if cell.run is None or not cell.run.id or not said:
        return cell
    if rank() == 0:
        store.describe([cell.run.id], **said)
    return replace(cell, run=replace(cell.run, **said))


def _say(cell: Cell, *, alone: bool) -> None:
    """Tell on stderr why a cell failed, and what to mind about its run."""
    if cell.error:
        fail(cell.error if alone else f"{cell.model} on {cell.task}: {cell.error}")
    for warning in cell.run.warnings if cell.run else ():
        warn(warning)
    if cell.cached:
        remark(f"{cell.model} on {cell.task} is answered from the registry; --rescore scores anew")


def _say_where_opinions_are(cell: Cell, loading: Loading, store: Registry) -> None:
    from plop_cli.runs.rerun import at

    if cell.run and cell.run.settings.get("adapter"):
        return
    words = ["plop", "recommend", cell.model, *(("--run", cell.run.id[:8]) if cell.run and cell.run.id else ())]
    for name in ("dtype", "revision", "load_in"):
        value = getattr(loading, name)
        words += [f"--{name.replace('_', '-')}", value] if value not in (None, "auto") else []
    remark(f"what EVA and ShortGPT say is kept with each run: {join([*words, *at(store), '--opinions'])}")


def _show(run: Run, *, by: str, nfn_map: bool) -> None:
    from plop_cli.tables.run import nfn_map as map_table
    from plop_cli.tables.run import run_table

    out().print(run_table(run, by=by, width=out().width))
    if nfn_map:
        out().print(map_table(run, width=out().width))


def _print(cells: list[Cell], format: Format, *, by: str, alone: bool) -> None:
    """One run is an object, those of a grid are a list; as rows, each says which run it is of."""
    from plop_cli.tables.rows import run_rows

    runs = [(cell.run, cell.cached) for cell in cells if cell.run]
    documents = [run.to_dict(cached=cached) for run, cached in runs]
    emit(
        format,
        document=lambda: documents[0] if alone and documents else documents,
        rows=lambda: [
            {"run_id": run.id, "model": run.model_name, "task": run.task_name, **row}
            for run, _ in runs
            for row in run_rows(run, by)
        ],
    )


def _list_modules(models: list[str], loading: Loading, include: list[str], format: Format) -> None:
    says("importing torch and transformers")
    from rich.console import Group

    from plop_cli.models.loading import skeleton
    from plop_cli.models.source import identify
    from plop_cli.network.modules import linear_modules
    from plop_cli.tables.catalogue import modules_dict, modules_table

    found = [(model, *linear_modules(skeleton(identify(model, loading), loading), include)) for model in models]
    documents = [modules_dict(*each) for each in found]
    emit(
        format,
        table=lambda width: Group(*(modules_table(*each, width=width) for each in found)),
        document=lambda: documents[0] if len(documents) == 1 else documents,
        rows=lambda: [{"model": each["model"], **module} for each in documents for module in each["modules"]],
    )
