"""`plop show`: everything about one run, or one race."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plop_cli.cli import completion, options, panels
from plop_cli.cli.console import note, out, say
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.printable import short
from plop_cli.words import listed
from plop_registry import Race, Run


def show(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=completion.runs,
            help="An id, its first digits, [bold]latest[/bold], or MODEL/TASK.",
            show_default=False,
        ),
    ],
    by: options.By = options.Rows.type,
    nfn_map: options.Map = False,
    against: Annotated[
        Path | None,
        panels.what(metavar="FILE", help="A model card: say whether its [bold]plop[/bold] block says the same."),
    ] = None,
    format: FormatOption = Format.table,
    registry: RegistryOption = None,
) -> None:
    """Show one run, or one race: its scores, what it was made of, and the command that would make it again.

    Examples: [bold]plop show latest --by layer --map[/bold], [bold]plop show org/model/math --against README.md[/bold]
    """
    from plop_cli.files import is_there
    from plop_cli.runs.rerun import command
    from plop_cli.runs.selection import run_or_race
    from plop_cli.tables.history import details
    from plop_cli.tables.rows import run_rows
    from plop_cli.tables.run import nfn_map as map_table
    from plop_cli.tables.run import run_table
    from plop_registry import Registry

    with Registry(registry) as store:
        shown = run_or_race(store, run)
    if against:
        _hold(shown, against, format)
        return
    if isinstance(shown, Race):
        _show_race(shown, format)
        return
    emit(
        format,
        table=lambda width: run_table(shown, by=by.value, width=width),
        document=lambda: {**shown.to_dict(), "command": command(shown)},
        rows=lambda: run_rows(shown, by.value),
    )
    if format is Format.table:
        if nfn_map:
            out().print(map_table(shown, width=out().width))
        out().print(details(shown))
        for path in filter(None, (shown.model_path, shown.adapter_path, shown.task_path)):
            folder, split, _ = path.rpartition("@")  # a task may be folder@split
            if not is_there(Path(path)) and not (split and is_there(Path(folder))):
                note(f"{path} is not there any more")
        say(short(command(shown), 20_000))  # in one line, to be copied


def _hold(run: Run | Race, card: Path, format: Format) -> None:
    """Say whether a model card says what the run says, or in which fields they differ; then exit 1."""
    from plop_cli.errors import PlopError
    from plop_cli.report.block import block_of, differences

    if isinstance(run, Race):
        raise PlopError(f"{run.id} is a race, and a card is of runs; give one of them (plop history)")
    try:
        text = card.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise PlopError(f"cannot read {card} ({reason}); give the README.md of a model") from error
    said = block_of(text, run, str(card))
    rows = differences(said, run)
    if said["run"] != run.id:
        note(f"{card} is of run {short(said['run'])}, made by plop {short(said['plop'])}")
    if format is not Format.table:
        told = {"same": not rows, "run_id": run.id, "card_run_id": said["run"], "differences": rows}
        emit(format, document=lambda: told, rows=lambda: rows)
    for row in rows if format is Format.table else ():
        say(f"{row['field']}: {_value(row['card'])} in {card}, {_value(row['run'])} in run {run.id[:8]}")
    if not rows and format is Format.table:
        say(f"{card} says what run {run.id[:8]} says: LoRA into {listed(run.recommended)}")
    if rows:
        raise typer.Exit(1)


def _value(value: object) -> str:
    if value is None:
        return "nothing"
    return " ".join(value) if isinstance(value, list) else short(str(value))


def _show_race(race: Race, format: Format) -> None:
    from plop_cli.tables.race import details, race_document, race_rows, race_table

    emit(
        format,
        table=lambda width: race_table(race, width=width),
        document=lambda: race_document(race),
        rows=lambda: race_rows(race),
    )
    if format is Format.table:
        out().print(details(race))
