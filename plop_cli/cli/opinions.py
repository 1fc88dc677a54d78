"""`plop opinions`: where methods that look at the weights alone would put adapters."""

from __future__ import annotations

from typing import Annotated

import typer

from plop_cli.cli import completion, options, panels
from plop_cli.cli.console import note
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import expanding
from plop_cli.models.options import Loading


@expanding(loading=options.loading)
def opinions(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.models,
            help="A hub id, a folder, a .gguf file, or [bold]demo[/bold].",
            show_default=False,
        ),
    ],
    loading: Loading,
    anew: Annotated[
        bool, panels.what("--recompute", "--force", help="Compute anew what the registry already has.")
    ] = False,
    format: FormatOption = Format.table,
    registry: RegistryOption = None,
) -> None:
    """Say where other methods would put adapters in MODEL, by its weights alone: no texts are read.

    Computed once for each revision, then answered from the registry. docs/opinions.md says what each looks at.

    Example: [bold]plop opinions demo[/bold]
    """
    from plop_cli.models.source import identify
    from plop_cli.placement.refused import left_out
    from plop_cli.runs.opinions import of_weights, said
    from plop_cli.runs.revisions import names_of
    from plop_cli.tables.opinions import missing, opinions_document, opinions_rows, opinions_table
    from plop_registry import Registry

    with Registry(registry) as store:
        source = names_of(model, identify(model, loading), loading, store)[0]
        found = of_weights(source, loading, store, anew=anew, note=note)
    all_said, refused = said(found)
    for name in refused:
        note(left_out(name))
    if format in (Format.csv, Format.jsonl, Format.md):
        for sentence in missing(all_said):
            note(sentence)
    emit(
        format,
        table=lambda width: opinions_table(f"{source}: second opinions", all_said, width=width),
        document=lambda: opinions_document(str(source), source.revision, all_said),
        rows=lambda: opinions_rows(all_said),
    )
