"""`plop recommend`: the types to adapt, how sure that is, what it costs, and the config for your trainer."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plop_cli.cli import completion, options, panels
from plop_cli.cli.cells import scored_cells
from plop_cli.cli.console import note, warn
from plop_cli.cli.filters import RegistryOption, whole
from plop_cli.cli.groups import expanding
from plop_cli.cli.placements import PlacementFormat, emit_placement
from plop_cli.errors import PlopError
from plop_cli.files import expanded
from plop_cli.models.options import Loading

if TYPE_CHECKING:
    from plop_cli.models.source import ModelSource
    from plop_cli.opinions.beside import Said
    from plop_cli.placement.placement import Placement
    from plop_cli.placement.recommend import StoredScores
    from plop_cli.runs.jobs import Request
    from plop_registry import Registry


class Unit(StrEnum):
    type = "type"
    module = "module"


class Rounding(StrEnum):
    down = "down"
    up = "up"
    nearest = "nearest"


@expanding(scoring=options.scoring, loading=options.loading)
def recommend(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.models,
            help="A hub id, a folder, a .gguf file, or [bold]demo[/bold]; with --targets a config.json is enough.",
            show_default=False,
        ),
    ],
    tasks: Annotated[
        list[str] | None,
        panels.what(
            "--task", "-t", autocompletion=completion.tasks, help="A task; repeat it for several: then the mean counts."
        ),
    ] = None,
    types: Annotated[
        int | None,
        panels.what(
            parser=whole(1), metavar="N", help="How many types. Default: the 3 lowest of 6 or more, else half of them."
        ),
    ] = None,
    below: Annotated[float | None, panels.what(help="All types with an NFN under this instead.")] = None,
    invert: Annotated[bool, panels.what("--invert", help="The highest NFN, not the lowest (PLoP⁻¹).")] = False,
    targets: Annotated[
        str | None, panels.what(metavar="TYPE,...", help="Your own choice of types, to be counted and exported.")
    ] = None,
    exclude: Annotated[str, panels.what(metavar="TYPE,...", help="Types that are out of the question.")] = "",
    by: Annotated[Unit, panels.what(help="module (experimental) chooses single modules.")] = Unit.type,
    rank: Annotated[
        int | None, panels.adapters("--rank", "-r", parser=whole(1), metavar="N", help="Of the adapters. Default: 16.")
    ] = None,
    match: Annotated[
        str | None,
        panels.adapters(
            metavar="STRATEGY:RANK",
            help="The rank with as many parameters as plop, plop-1, attn, mlp or all has at RANK: mlp:8.",
        ),
    ] = None,
    rounding: Annotated[Rounding, panels.adapters("--round", help="How --match rounds.")] = Rounding.down,
    budget: Annotated[
        str | None, panels.adapters(metavar="PARAMETERS", help="The largest rank within these: 20M, 500K.")
    ] = None,
    alpha: Annotated[
        int | None, panels.adapters(parser=whole(1), metavar="N", help="LoRA's alpha. Default: twice the rank.")
    ] = None,
    rslora: Annotated[bool, panels.adapters("--rslora", help="Rank-stabilised LoRA.")] = False,
    formats: Annotated[
        list[PlacementFormat] | None,
        panels.output(
            "--format",
            "-f",
            help="What to print: a table (default) or a trainer's config; repeat it for several, with -o DIR.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        panels.output(
            "--output", "-o", metavar="FILE", help="Write it into a file; several into a folder.", show_default=False
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    approximate: Annotated[
        bool, panels.output("--approximate", help="Write what comes nearest where a trainer cannot say the placement.")
    ] = False,
    run: Annotated[
        list[str] | None,
        panels.what(
            "--run",
            metavar="RUN",
            autocompletion=completion.runs,
            help="Stored scores to go by, by id, instead of --task; repeatable.",
        ),
    ] = None,
    confidence: options.Confidence = 0.99,
    opinions: Annotated[
        bool,
        panels.what("--opinions", help="What other methods would choose, beside it: condition number, SNR and more."),
    ] = False,
    loading: Loading,
    scoring: options.Scoring,
    registry: RegistryOption = None,
) -> None:
    """Say where LoRA adapters go in MODEL for TASK: types, rank, cost, and the config to paste.

    Scores come from the registry if they are there; else as many texts are scored as the decision needs.

    Example: [bold]plop recommend demo --task sample/math --match mlp:8 --format peft -o adapter_config.json[/bold]
    """
    if sum(map(bool, (tasks, run, targets))) != 1:
        raise typer.BadParameter(
            "give scores to go by or a choice of your own", param_hint="--task, --run or --targets"
        )
    from plop_cli import files
    from plop_cli.opinions.methods import ADAPTED
    from plop_cli.placement.ranks import parse_count, parse_match
    from plop_cli.placement.recommend import recommend as placed
    from plop_cli.placement.recommend import rule_of
    from plop_cli.runs import anatomies
    from plop_cli.runs.jobs import Request
    from plop_cli.runs.revisions import names_of
    from plop_registry import Registry

    formats = list(dict.fromkeys(formats or [PlacementFormat.table]))
    if opinions:
        _check_opinions(formats, alone=not (targets or invert or by is Unit.module))
    if by is Unit.module:
        note("--by module is experimental: the paper chooses types")
    # What can be wrong is said before anything is scored.
    if len(formats) > 1 and output is None:
        raise typer.BadParameter("several formats need a folder to go into", param_hint="--output")
    if output and len(formats) == 1:
        files.check_new(output, force=overwrite)
    if match:
        parse_match(match)
    wanted: dict[str, Any] = {"types": types, "below": below, "invert": invert, "exclude": _listed(exclude)}
    parameters = None if budget is None else parse_count(budget)
    source = _source(model, loading, only_config=bool(targets))
    with Registry(registry) as store:
        source = names_of(model, source, loading, store)[0]
        if opinions and source.adapter_hash:
            raise PlopError(ADAPTED)
        body = anatomies.anatomy_of(source, loading, store)
        rule = rule_of(sorted({module.type for module in body.modules}), architecture=body.architecture, **wanted)
        request = Request(**scoring, loading=loading, until=confidence, rule=rule, opinions=opinions)
        scores = _scores(model, tasks or [], run or [], request, store)
        if scores:
            anatomies.keep(source, body, store)
        placement = placed(
            scores,
            targets=_listed(targets),
            by=by.value,
            rank=rank,
            match=match,
            budget=parameters,
            rounding=rounding.value,
            alpha=alpha,
            rslora=rslora,
            model=body,
            **wanted,
        )
        beside = _beside(placement, wanted["exclude"], scores, source, loading, store) if opinions else []
    emit_placement(
        replace(placement, model=str(source)), beside, formats, output, approximate=approximate, force=overwrite
    )


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _source(model: str, loading: Loading, *, only_config: bool) -> ModelSource:
    from plop_cli.models.source import ModelSource, identify

    folder = expanded(model)
    if only_config and (folder / "config.json").is_file():
        return ModelSource(id=folder.resolve().name, label="", revision="", folder=folder)
    return identify(model, loading)


def _scores(model: str, tasks: list[str], runs: list[str], request: Request, registry: Registry) -> list[StoredScores]:
    """Of the runs that were named, or of each task: from the registry, else scored now."""
    from plop_cli.placement.recommend import StoredScores

    scored = [registry.get(run) for run in runs]
    for cell in scored_cells([model], tasks, request, registry) if tasks else ():
        if cell.run is None or cell.error:
            raise PlopError(f"{cell.task}: {cell.error}" if len(tasks) > 1 else str(cell.error))
        if cell.cached:
            note(f"the scores on {cell.task} are from the registry ({cell.run.id}, {cell.run.samples} texts)")
        for warning in cell.run.warnings:
            warn(warning)
        scored.append(cell.run)
    return [StoredScores(run, registry.matrix(run.id)) for run in scored]


def _check_opinions(formats: list[PlacementFormat], *, alone: bool) -> None:
    if not alone:
        raise typer.BadParameter(
            "opinions stand beside PLoP's choice of types; leave out --targets, --invert and --by",
            param_hint="--opinions",
        )
    if not {PlacementFormat.table, PlacementFormat.json} & {*formats}:
        raise typer.BadParameter(
            "a trainer's config has no place for them; add --format table", param_hint="--opinions"
        )


def _beside(
    placement: Placement,
    exclude: list[str],
    scores: list[StoredScores],
    source: ModelSource,
    loading: Loading,
    registry: Registry,
) -> list[Said]:
    """What other methods say of the model, each with as many types as PLoP chose of the same ones."""
    from plop_cli.opinions.beside import beside
    from plop_cli.opinions.methods import OF_ACTIVATIONS
    from plop_cli.runs.kept import has_opinions, lacking
    from plop_cli.runs.opinions import of_runs, of_weights

    runs = [registry.get(each.run.id) for each in scores]
    for run in runs:
        if not has_opinions(run, registry):
            note(lacking(OF_ACTIVATIONS, run, registry))
    opinions = of_runs(runs, of_weights(source, loading, registry, note=note), source, loading, registry)
    return beside(*opinions, count=len(placement.choice.chosen), exclude={*exclude, *placement.left_out})
