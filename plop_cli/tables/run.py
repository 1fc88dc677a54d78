"""Results → rich renderables. Nothing here prints, and nothing needs torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.color import Color
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from plop_cli.tables.rows import run_rows
from plop_registry import Run, Skipped

if TYPE_CHECKING:
    from plop_cli.network.modules import LinearModule

CHOSEN = "●"
_BAR = 24


def run_table(run: Run, *, by: str = "type") -> RenderableType:
    """One run: what was scored, the scores by type, layer or module, and what to adapt."""
    rows = {"type": _types, "layer": _layers, "module": _modules}[by](run)
    rows.title = f"{model_name(run)} on {run.task_id}"
    rows.caption = f"{run.samples} texts, {run.tokens:,} tokens, {run.dtype}, {run.duration:.1f} s on {run.device}" + (
        f", run {run.id[:8]}" if run.id else ""
    )
    return Group(rows, _advice(run))


def model_name(run: Run) -> str:
    """The model as its user would name it."""
    return f"{run.model_id}@{run.model_label}" if run.model_label else run.model_id


def _advice(run: Run) -> Text:
    advice = Text.assemble("LoRA belongs into ", (", ".join(run.recommended), "bold green"))
    if run.confidence is not None and not math.isnan(run.confidence):
        advice.append(f" (the same set in {run.confidence:.1%} of resamples)")
    return advice


def _types(run: Run) -> Table:
    tokens = _tokens_by_type(run)
    columns = ("", "type", ">NFN", ">±", ">modules", *([">tokens each"] if tokens else []), "0 ┄ baseline 1 ┄")
    table = plain_table(*columns)
    top = max((score.nfn for score in run.types), default=1.0)
    for score in run.types:
        table.add_row(
            CHOSEN if score.recommended else "",
            score.type,
            f"{score.nfn:.3f}",
            error(score.stderr),
            str(score.modules),
            *([tokens[score.type]] if tokens else []),
            _bar(score.nfn, max(top, 1.0)),
            style="bold green" if score.recommended else "",
        )
        for part in (part for part in run.parts if part.type == score.type):
            blank = [""] * bool(tokens)
            table.add_row("", f"  {part.part}", f"{part.nfn:.3f}", error(part.stderr), "", *blank, style="dim")
    return table


def _layers(run: Run) -> Table:
    table = plain_table(">layer", ">NFN", ">modules", "lowest", "highest")
    for row in run_rows(run, "layer"):
        table.add_row(
            "–" if row["layer"] is None else str(row["layer"]),
            f"{row['nfn']:.3f}",
            str(row["modules"]),
            f"{row['lowest']} {row['lowest_nfn']:.3f}",
            f"{row['highest']} {row['highest_nfn']:.3f}",
        )
    return table


def _modules(run: Run) -> Table:
    uneven = bool(_tokens_by_type(run))
    table = plain_table("", "module", ">out × in", ">NFN", ">±", *([">tokens"] if uneven else []))
    chosen = set(run.recommended)
    for module in sorted(run.modules, key=lambda module: module.nfn):
        table.add_row(
            CHOSEN if module.type in chosen else "",
            module.name,
            f"{module.out_features} × {module.in_features}",
            f"{module.nfn:.3f}",
            error(module.stderr),
            *([f"{module.tokens:,}"] if uneven else []),
        )
    return table


def _tokens_by_type(run: Run) -> dict[str, str]:
    """How many tokens each module of a type saw, "12 – 3,456"; empty where all modules of the run saw as many."""
    seen: dict[str, set[int]] = {}
    for module in run.modules:
        seen.setdefault(module.type, set()).add(module.tokens)
    if len(set().union(*seen.values())) < 2:
        return {}
    return {kind: " – ".join(f"{n:,}" for n in sorted({min(of), max(of)})) for kind, of in seen.items()}


def nfn_map(run: Run) -> Table:
    """The NFN-map (paper, Figure 4): layers down, types across, lowest type first; the digits say what colours do."""
    cells: dict[tuple[int | None, str], list[float]] = {}
    for module in run.modules:
        cells.setdefault((module.layer, module.type), []).append(module.nfn)
    means = {place: sum(values) / len(values) for place, values in cells.items()}
    reach = max((abs(math.log(max(value, 1e-6))) for value in means.values()), default=1.0) or 1.0
    table = plain_table(
        ">layer", *(f">{score.type}" + (f"\n{CHOSEN}" if score.recommended else "") for score in run.types)
    )
    table.padding = (0, 0, 0, 1)
    table.title = f"NFN-map of {model_name(run)} on {run.task_id}"
    for layer in sorted({layer for layer, _ in means}, key=lambda layer: (layer is None, layer or 0)):
        row = [_cell(means.get((layer, score.type)), reach) for score in run.types]
        table.add_row("–" if layer is None else str(layer), *row)
    return table


def modules_table(model: str, modules: Sequence[LinearModule], skipped: Sequence[Skipped]) -> RenderableType:
    """What would be scored, under which type, and what is skipped and why."""
    table = plain_table("type", ">modules", "layers", "out × in", "such as")
    table.title = f"{model}: {len(modules)} modules are scored"
    for name in dict.fromkeys(module.type for module in modules):
        members = [module for module in modules if module.type == name]
        shapes = dict.fromkeys(f"{module.out_features} × {module.in_features}" for module in members)
        layers = [module.layer for module in members if module.layer is not None]
        span = f"{min(layers)}–{max(layers)}" if layers else "–"
        table.add_row(name, str(len(members)), span, ", ".join(shapes), members[0].name)
    left = plain_table(">modules", "such as", "not scored, because")
    for reason, count in Counter(skip.reason for skip in skipped).items():
        left.add_row(str(count), next(skip.name for skip in skipped if skip.reason == reason), reason)
    return Group(table, left) if skipped else table


def tasks_table() -> RenderableType:
    """The built-in tasks with their sources, and what else TASK can be."""
    from plop_cli.texts.presets import PRESETS, SAMPLES

    table = plain_table("task", "texts", "source")
    for name, preset in PRESETS.items():
        table.add_row(name, preset.about, preset.source)
    for name, about in SAMPLES.items():
        table.add_row(name, about, "in this package; needs no hub")
    return Group(
        table,
        Text(
            "Or a file (.jsonl, .json, .csv, .tsv, .parquet, .arrow, .txt; .gz, .zst), a folder of such files or of "
            "save_to_disk (FOLDER@SPLIT), a glob, org/name[:config][@split] on the hub, or - (stdin)."
        ),
    )


def error(value: float | None) -> str:
    """A standard error, or a dash where one sample tells none."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def plain_table(*headers: str) -> Table:
    """A plain table; a header that begins with > aligns its column to the right."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", title_style="bold")
    for header in headers:
        right = header.startswith(">")
        table.add_column(header.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _bar(value: float, top: float) -> Text:
    """A bar from 0 to `top` with a tick where the baseline 1 is."""
    filled, baseline = round(value / top * _BAR), round(1 / top * _BAR)
    cells = ["━" if position < filled else " " for position in range(_BAR + 1)]
    cells[baseline] = "┿" if baseline < filled else "│"
    return Text("".join(cells))


def _cell(value: float | None, reach: float) -> Text:
    """A score on a blue (below 1) to orange (above) ground, white at 1, as deep as log(value) is far out."""
    if value is None or math.isnan(value):
        return Text("·", style="dim")
    share = min(1.0, abs(math.log(max(value, 1e-6))) / reach)
    end = (33, 102, 172) if value < 1 else (217, 95, 2)
    ground = [round(247 + (part - 247) * share) for part in end]
    return Text(f"{value:.2f}", style=Style(color="white" if share > 0.6 else "black", bgcolor=Color.from_rgb(*ground)))
