"""How `plop recommend` prints a placement: a table, JSON, or a trainer's config; on stdout or into files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from plop_cli.cli.console import note, out, put, shows_unicode, warn
from plop_cli.printable import printable

if TYPE_CHECKING:
    from plop_cli.opinions.beside import Said
    from plop_cli.placement.placement import Placement


class PlacementFormat(StrEnum):
    table = "table"
    json = "json"
    peft = "peft"
    python = "python"
    axolotl = "axolotl"
    llamafactory = "llamafactory"
    unsloth = "unsloth"
    torchtune = "torchtune"
    trl = "trl"
    ms_swift = "ms-swift"
    verl = "verl"
    mlx_lm = "mlx-lm"
    nemo_automodel = "nemo-automodel"


def emit_placement(
    placement: Placement,
    beside: Sequence[Said],
    formats: Sequence[PlacementFormat],
    output: Path | None,
    *,
    approximate: bool,
    force: bool,
) -> None:
    """To stdout, into a file, or several into a folder. Without a table its sentences go to stderr.

    Args: `beside`, second opinions, for the table and JSON.
    """
    from plop_cli import files
    from plop_cli.placement.sentences import sentences

    made = {name: text.encode() for name, text in (_text(placement, beside, f, output, approximate) for f in formats)}
    if PlacementFormat.table not in formats:
        for sentence in sentences(placement):
            note(sentence)
    if output is None:
        put(b"".join(made.values()).decode())
    elif len(formats) > 1:
        files.write_all(output, made.items(), force=force)
        note(f"{', '.join(made)} are written into {output}")
    else:
        files.write(output, *made.values())
        note(f"{output} is written")


def _text(
    placement: Placement, beside: Sequence[Said], format: PlacementFormat, output: Path | None, approximate: bool
) -> tuple[str, str]:
    """One format: the name of its file, and what is in it."""
    from rich.console import Console

    from plop_cli.placement.trainers.export import export
    from plop_cli.tables.opinions import methods_document, opinions_table
    from plop_cli.tables.placement import placement_table

    trainer = "python" if format in (PlacementFormat.table, PlacementFormat.json) else format.value
    config = export(placement, trainer, approximate=approximate)
    if config.off:
        warn(config.off)
    if config.remark:
        note(config.remark)
    if format is PlacementFormat.json:
        ascii = not output and not shows_unicode()
        document = placement.to_dict() | ({"opinions": methods_document(beside)} if beside else {})
        return "placement.json", json.dumps(document, indent=2, ensure_ascii=ascii, allow_nan=False) + "\n"
    if format is not PlacementFormat.table:
        return config.file, config.text if output else printable(config.text)
    console = Console(width=120, color_system=None, highlight=False) if output else out()
    with console.capture() as printed:
        console.print(placement_table(placement, width=console.width))
        if beside:
            console.print(opinions_table("\nSecond opinions", beside, width=console.width))
        console.print(config.text, soft_wrap=True, markup=False)
    return "placement.txt", printed.get()
