"""What there is to choose from: the modules of a model, and the built-in tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from plop_cli.tables.fit import WIDE, Row, cut, drop, fitted, wrap
from plop_registry import Skipped

if TYPE_CHECKING:
    from plop_cli.network.modules import LinearModule


def modules_table(
    model: str, modules: Sequence[LinearModule], skipped: Sequence[Skipped], *, width: int = WIDE
) -> RenderableType:
    """What would be scored, under which type, and what is skipped and why."""
    rows = []
    for name in dict.fromkeys(module.type for module in modules):
        members = [module for module in modules if module.type == name]
        shapes = dict.fromkeys(f"{module.out_features} × {module.in_features}" for module in members)
        layers = [module.layer for module in members if module.layer is not None]
        cells = {
            "type": name,
            "modules": str(len(members)),
            "layers": f"{min(layers)}–{max(layers)}" if layers else "–",
            "out × in": ", ".join(shapes),
            "such as": members[0].name,
        }
        rows.append(Row(cells))
    headers = ("type", ">modules", "layers", "out × in", "such as")
    table = fitted(headers, rows, width, [*cut("such as"), *drop("such as", "layers", "out × in"), *cut("type")])
    table.title = f"{model}: {len(modules)} modules are scored"
    left = [
        Row(
            {
                "modules": str(count),
                "such as": next(skip.name for skip in skipped if skip.reason == reason),
                "not scored, because": reason,
            }
        )
        for reason, count in Counter(skip.reason for skip in skipped).items()
    ]
    give = [*cut("such as"), *drop("such as"), *wrap("not scored, because")]
    return Group(table, fitted((">modules", "such as", "not scored, because"), left, width, give)) if skipped else table


def modules_dict(model: str, modules: Sequence[LinearModule], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """The JSON form of the same."""
    columns = ("name", "type", "layer", "in_features", "out_features")
    return {
        "model": model,
        "modules": [{column: getattr(module, column) for column in columns} for module in modules],
        "skipped": [{"name": skip.name, "reason": skip.reason} for skip in skipped],
    }


def tasks_table(*, width: int = WIDE) -> RenderableType:
    """The built-in tasks with their sources, and what else TASK can be."""
    from plop_cli.texts.presets import PRESETS, SAMPLES

    tasks = [(name, preset.about, preset.source) for name, preset in PRESETS.items()]
    tasks += [(name, about, "in this package; needs no hub") for name, about in SAMPLES.items()]
    rows = [Row({"task": name, "texts": about, "source": source}) for name, about, source in tasks]
    table = fitted(("task", "texts", "source"), rows, width, [*wrap("source", "texts"), *drop("source")])
    return Group(
        table,
        Text(
            "Or a file (.jsonl, .json, .csv, .tsv, .parquet, .arrow, .txt; .gz, .zst), a folder of such files or of "
            "save_to_disk (FOLDER@SPLIT), a glob, org/name[:config][@split] on the hub, or - (stdin)."
        ),
    )
