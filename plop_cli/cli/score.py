"""`plop score`: NFN of every module type of a model on a task's texts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from plop_cli.cli import options
from plop_cli.cli.app import app
from plop_cli.cli.console import fail, note, out, print_json, progress, warn
from plop_cli.models.source import Loading


class By(StrEnum):
    type = "type"
    layer = "layer"
    module = "module"


@app.command()
def score(
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
    samples: options.Samples = 100,
    max_length: options.MaxLength = 256,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Stop once the recommended set is sure, after 8, 16, 32, … texts, --samples at most.",
        ),
    ] = False,
    confidence: options.Confidence = 0.99,
    batch_tokens: options.BatchTokens = None,
    seed: options.Seed = 0,
    dtype: options.Dtype = options.DtypeName.auto,
    device: options.Device = "auto",
    revision: options.Revision = None,
    column: options.Column = None,
    template: options.Template = None,
    chat: options.Chat = False,
    on: options.OnWhat = options.On.all,
    skip_bad: options.SkipBad = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="TOWER", help="Score this tower of a multimodal model too (vision), if texts reach it."),
    ] = None,
    nfn_map: Annotated[bool, typer.Option("--map", help="Show the NFN-map too: layers by types.")] = False,
    by: Annotated[By, typer.Option(help="What the rows of the table are.")] = By.type,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    list_modules: Annotated[
        bool, typer.Option("--list-modules", help="Show what would be scored and what not; no weights are loaded.")
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option(help="Path or URL of the registry. Default: $PLOP_REGISTRY, else a file in your data folder."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Score anew what the registry already has.")] = False,
    trust_remote_code: options.TrustRemoteCode = False,
    allow_pickle: options.AllowPickle = False,
    adapter: options.Adapter = None,
    load_in: options.LoadIn = None,
    offload: options.Offload = None,
    max_memory: options.MaxMemory = None,
    device_map: options.DeviceMap = None,
) -> None:
    """Score MODELs on TASKs: one forward pass each, NFN by module type, lowest first.

    LoRA belongs into the types marked with ●. Every run is kept, and answered from the registry when asked for again.

    Example: [bold]plop score demo --task sample/math --map[/bold]
    """
    loading = Loading(
        dtype=dtype.value,
        device=device,
        revision=revision,
        adapter=adapter,
        load_in=load_in,
        offload=offload,
        max_memory=max_memory,
        split=device_map is not None,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    if list_modules:
        _list_modules(models, loading, include or [], json=json)
        return
    if not tasks:
        raise typer.BadParameter("give at least one, such as --task math or --task sample/math", param_hint="--task")
    from plop_cli.runs.grid import Request, score_grid
    from plop_cli.tables.run import nfn_map as map_table
    from plop_cli.tables.run import run_table
    from plop_registry import Registry

    request = Request(
        samples=samples,
        max_length=max_length,
        batch_tokens=batch_tokens,
        seed=seed,
        column=column,
        template=template,
        chat=chat,
        on=on.value,
        skip_bad=skip_bad,
        include=tuple(include or ()),
        loading=loading,
        force=force,
        until=confidence if until_decided else None,
    )
    found, failed = [], []
    with Registry(registry) as store:
        for cell in score_grid(models, tasks, request, store, show=progress, note=note):
            if cell.error:
                failed.append(cell)
                fail(f"{cell.model} on {cell.task}: {cell.error}" if len(models) * len(tasks) > 1 else cell.error)
            if cell.run is None:
                continue
            found.append(cell.run.to_dict(cached=cell.cached))
            for warning in cell.run.warnings:
                warn(warning)
            if cell.cached:
                note(f"{cell.model} on {cell.task} is answered from the registry; --force scores anew")
            if not json:
                out().print(run_table(cell.run, by=by.value))
                if nfn_map:
                    out().print(map_table(cell.run))
    if json:
        print_json(found[0] if len(found) == 1 and len(models) * len(tasks) == 1 else found)
    if failed:
        if len(failed) > 1 or found:
            fail(
                f"{len(failed)} of {len(failed) + len(found)} failed: "
                + ", ".join(f"{c.model} on {c.task}" for c in failed)
            )
        raise typer.Exit(1)


def _list_modules(models: list[str], loading: Loading, include: list[str], *, json: bool) -> None:
    from plop_cli.models.loading import skeleton
    from plop_cli.models.source import identify
    from plop_cli.network.modules import linear_modules
    from plop_cli.tables.run import modules_table

    listed = []
    for model in models:
        source = identify(model, loading)
        modules, skipped = linear_modules(skeleton(source, loading), include)
        if json:
            columns = ("name", "type", "layer", "in_features", "out_features")
            listed.append(
                {
                    "model": model,
                    "modules": [{name: getattr(module, name) for name in columns} for module in modules],
                    "skipped": [{"name": s.name, "reason": s.reason} for s in skipped],
                }
            )
        else:
            out().print(modules_table(model, modules, skipped))
    if json:
        print_json(listed[0] if len(listed) == 1 else listed)
