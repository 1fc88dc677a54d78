"""`plop compare`: runs side by side, and whether they differ by more than chance."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from plop_cli.cli import completion, panels
from plop_cli.cli.console import fail, note
from plop_cli.cli.filters import Filters, RegistryOption
from plop_cli.cli.filters import filters as filter_options
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import expanding


class Axis(StrEnum):
    model = "model"
    task = "task"
    revision = "revision"
    dtype = "dtype"


def _condition(text: str) -> str:
    if not re.fullmatch(r"changed|nfn:\d*\.?\d+", text):
        raise typer.BadParameter(f"{text!r} is no condition; give changed, or nfn: and a difference (nfn:0.05)")
    return text


def _method(text: str) -> str:
    from plop_cli.errors import no_such
    from plop_cli.opinions.methods import METHODS

    if text not in METHODS:
        raise typer.BadParameter(str(no_such("method", text, METHODS)))
    return text


@expanding(filters=filter_options)
def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=completion.runs,
            help="Ids, their first digits, [bold]latest[/bold], or MODEL/TASK.",
        ),
    ] = None,
    by: Annotated[
        Axis | None, panels.what(help="Choose the runs that fit the filters: the newest for each of these.")
    ] = None,
    *,
    filters: Filters,
    baseline: Annotated[
        str | None, panels.what(metavar="RUN", help="What the others are compared to: an id or a column's name.")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        panels.what(
            parser=_condition,
            metavar="changed|nfn:X",
            help="Exit 3 where a run's placement is not the baseline's, or an NFN differs by more than X.",
        ),
    ] = None,
    signal: Annotated[
        str,
        panels.what(
            parser=_method,
            autocompletion=completion.signals,
            metavar="METHOD",
            help="Compare what another method says: kappa, snr, alpha, … (docs/opinions.md).",
        ),
    ] = "nfn",
    format: FormatOption = Format.table,
    registry: RegistryOption = None,
) -> None:
    """Compare runs: types down, runs across, with what differs from the baseline (the first run) by more than chance.

    Examples: [bold]plop compare --by task --model demo[/bold],
    [bold]plop compare general/math specialised/math --fail-on changed[/bold]
    """
    from plop_cli.comparison.compare import compare_stored
    from plop_cli.comparison.sentences import failures as failures_of
    from plop_cli.tables.comparison import comparison_markdown, comparison_table
    from plop_registry import Registry

    if signal != "nfn" and any(condition.startswith("nfn:") for condition in fail_on or ()):
        raise typer.BadParameter(f"nfn: is of NFN, and --signal is {signal}; give changed", param_hint="--fail-on")
    with Registry(registry) as store:
        comparison, older = compare_stored(
            store, runs or [], by=by and by.value, baseline=baseline, signal=signal, **filters
        )
    if older:
        note(f"each column is the newest of its runs; {older} older passed over")
    emit(
        format,
        table=lambda width: comparison_table(comparison, width=width),
        document=comparison.to_dict,
        rows=lambda: list(comparison.rows()),
        markdown=lambda: comparison_markdown(comparison),
    )
    failures = [
        f"{failure} (--fail-on {condition})"
        for condition in fail_on or ()
        for failure in failures_of(comparison, condition)
    ]
    for failure in failures:
        fail(failure)
    if failures:
        raise typer.Exit(3)
