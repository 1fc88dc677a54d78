"""A run → rich renderables: its table, and its NFN-map. Nothing here prints, and nothing needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.color import Color
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from plop_cli.method.floor import LEAST_SAMPLES, told
from plop_cli.method.layers import layer_means
from plop_cli.printable import short
from plop_cli.tables.fit import WIDE, Row, cut, drop, fitted, shortened
from plop_cli.tables.plain import CHOSEN, model_name, plain_table, plus_minus
from plop_cli.tables.rows import run_rows
from plop_registry import Run, TypeScore

_BAR = 24
_SCALE = "0 ┄ baseline 1 ┄"


def run_table(run: Run, *, by: str = "type", width: int = WIDE) -> RenderableType:
    """One run: what was scored, the scores by type, layer or module, and what to adapt."""
    rows = {"type": _types, "layer": _layers, "module": _modules}[by](run, width)
    rows.title = f"{model_name(run)} on {short(run.task_name)}"
    rows.caption = f"{run.samples} texts, {run.tokens:,} tokens, {run.dtype}, {run.duration:.1f} s on {run.device}" + (
        f", run {run.id[:8]}" if run.id else ""
    )
    return Group(rows, _advice(run))


def _advice(run: Run) -> Text:
    advice = Text.assemble("LoRA belongs into ", (", ".join(run.recommended), "bold green"))
    confidence = told(run.confidence, run.samples)
    if confidence is not None:
        advice.append(f" (the same set in {confidence:.1%} of resamples)")
    elif run.samples < LEAST_SAMPLES:
        advice.append(f" (too few texts to say how sure that is: {run.samples}; {LEAST_SAMPLES} are the least)")
    return advice


def _types(run: Run, width: int) -> Table:
    tokens = _tokens_by_type(run)
    top = max((score.nfn for score in run.types), default=1.0)
    rows = []
    for score in run.types:
        cells: dict[str, str | Text] = {
            "": CHOSEN if score.recommended else "",
            "type": score.type,
            "NFN": f"{score.nfn:.3f}",
            "±": plus_minus(score.stderr),
            "modules": str(score.modules),
            "tokens each": tokens.get(score.type, ""),
            _SCALE: _bar(score.nfn, max(top, 1.0)),
        }
        rows.append(Row(cells, "bold green" if score.recommended else ""))
        for part in (part for part in run.parts if part.type == score.type):
            cells = {"type": f"  {part.part}", "NFN": f"{part.nfn:.3f}", "±": plus_minus(part.stderr)}
            rows.append(Row(cells, "dim"))
    headers = ("", "type", ">NFN", ">±", ">modules", *([">tokens each"] if tokens else []), _SCALE)
    return fitted(headers, rows, width, [*drop(_SCALE, "tokens each", "modules", "±"), *cut("type")])


def _layers(run: Run, width: int) -> Table:
    rows = [
        Row(
            {
                "layer": "–" if row["layer"] is None else str(row["layer"]),
                "NFN": f"{row['nfn']:.3f}",
                "modules": str(row["modules"]),
                "lowest": f"{row['lowest']} {row['lowest_nfn']:.3f}",
                "highest": f"{row['highest']} {row['highest_nfn']:.3f}",
            }
        )
        for row in run_rows(run, "layer")
    ]
    headers = (">layer", ">NFN", ">modules", "lowest", "highest")
    return fitted(headers, rows, width, [*drop("modules", "highest"), *cut("lowest")])


def _modules(run: Run, width: int) -> Table:
    uneven = bool(_tokens_by_type(run))
    chosen = set(run.recommended)
    rows = [
        Row(
            {
                "": CHOSEN if module.type in chosen else "",
                "module": module.name,
                "out × in": f"{module.out_features} × {module.in_features}",
                "NFN": f"{module.nfn:.3f}",
                "±": plus_minus(module.stderr),
                "tokens": f"{module.tokens:,}",
            }
        )
        for module in sorted(run.modules, key=lambda module: module.nfn)
    ]
    headers = ("", "module", ">out × in", ">NFN", ">±", *([">tokens"] if uneven else []))
    return fitted(headers, rows, width, [*drop("tokens", "out × in", "±"), *cut("module")])


def _tokens_by_type(run: Run) -> dict[str, str]:
    """How many tokens each module of a type saw, "12 – 3,456"; empty where all modules of the run saw as many."""
    seen: dict[str, set[int]] = {}
    for module in run.modules:
        seen.setdefault(module.type, set()).add(module.tokens)
    if len(set().union(*seen.values())) < 2:
        return {}
    return {type: " – ".join(f"{n:,}" for n in sorted({min(counts), max(counts)})) for type, counts in seen.items()}


def nfn_map(run: Run, *, width: int = WIDE) -> RenderableType:
    """The NFN-map (paper, Figure 4): layers down, types across, lowest type first; the digits say what colours do.

    Types that do not fit into `width` go into tables of their own.
    """
    means = layer_means(run.modules)
    reach = max((abs(math.log(max(value, 1e-6))) for value in means.values()), default=1.0) or 1.0
    layers = sorted({layer for layer, _ in means}, key=lambda layer: (layer is None, layer or 0))
    tables: list[Table] = []
    for types in _across(run.types, width - len(" layer ") - 1):
        headers = (f">{shortened(score.type, width // 2)}" + f"\n{CHOSEN}" * score.recommended for score in types)
        table = plain_table(">layer", *headers)
        table.padding = (0, 0, 0, 1)
        for layer in layers:
            cells = [_cell(means.get((layer, score.type)), reach) for score in types]
            table.add_row("–" if layer is None else str(layer), *cells)
        tables.append(table)
    tables[0].title = f"NFN-map of {model_name(run)} on {short(run.task_name)}"
    return Group(*tables)


def _across(types: Sequence[TypeScore], room: int) -> list[list[TypeScore]]:
    """The types in groups whose columns fit side by side."""
    groups: list[list[TypeScore]] = [[]]
    taken = 0
    for score in types:
        wide = max(len(score.type), 4) + 2
        if groups[-1] and taken + wide > room:
            groups.append([])
            taken = 0
        groups[-1].append(score)
        taken += wide
    return groups


def _bar(value: float, top: float) -> Text:
    """A bar from 0 to `top` with a tick where the baseline 1 is."""
    filled, baseline = round(value / top * _BAR), round(1 / top * _BAR)
    cells = ["━" if index < filled else " " for index in range(_BAR + 1)]
    cells[baseline] = "┿" if baseline < filled else "│"
    return Text("".join(cells))


def _cell(value: float | None, reach: float) -> Text:
    """A score on a blue (below 1) to orange (above) ground, white at 1, as deep as log(value) is far out."""
    if value is None:
        return Text("·", style="dim")
    share = min(1.0, abs(math.log(max(value, 1e-6))) / reach)
    end = (33, 102, 172) if value < 1 else (217, 95, 2)
    ground = [round(247 + (channel - 247) * share) for channel in end]
    return Text(f"{value:.2f}", style=Style(color="white" if share > 0.6 else "black", bgcolor=Color.from_rgb(*ground)))
