"""A placement → rich renderables, and the sentences that say it in words."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plop_cli.placement.placement import Placement
from plop_cli.placement.ranks import Strategy
from plop_cli.placement.sentences import of_types, sentences
from plop_cli.tables.fit import WIDE, Row, cut, drop, fitted, wrap
from plop_cli.tables.plain import CHOSEN, percent, plain_table
from plop_cli.words import listed


def placement_table(placement: Placement, *, width: int = WIDE) -> RenderableType:
    """What was chosen and how sure that is, and what each strategy would cost."""
    tasks = f" on {listed(placement.tasks)}" if placement.tasks else ""
    return Group(
        Text(f"{placement.model}{tasks}", style="bold"),
        _types(placement, width) if of_types(placement) else _places(placement),
        *map(Text, sentences(placement)),
        Text("\nWhat each strategy costs, at this rank and at the rank where it is as large as this placement"),
        _strategies(placement, width),
    )


def _types(placement: Placement, width: int) -> Table:
    choice = placement.choice
    scored = not any(map(math.isnan, choice.nfn.values()))
    rows = []
    for unit, nfn in choice.nfn.items():
        chosen = unit in choice.chosen
        cells = {"": CHOSEN if chosen else "", "type": unit}
        if scored:
            cells |= {
                "NFN": f"{nfn:.3f}",
                **{task: f"{alone.nfn[unit]:.3f}" for task, alone in placement.by_task.items()},
            }
        if choice.frequency:
            cells["chosen in"] = percent(choice.frequency[unit])
        rows.append(Row(cells, "bold green" if chosen else ""))
    tasks = list(placement.by_task) if scored else []
    headers = ["", "type", *([">NFN"] if scored else []), *(f">{task}" for task in tasks)]
    give = [*drop(*tasks[::-1], "chosen in"), *cut("type")]
    return fitted([*headers, *([">chosen in"] if choice.frequency else [])], rows, width, give)


def _places(placement: Placement) -> Table:
    """Single modules, as the layers of each type."""
    table = plain_table("type", ">modules", "layers")
    layers: dict[str, list[str]] = {}
    for place, type in {module.place: module.type for module in placement.modules}.items():
        number = next((part for part in place.split(".") if part.isdigit()), "–")
        layers.setdefault(type, []).append(number)
    for type, numbers in sorted(layers.items()):
        table.add_row(type, str(len(numbers)), " ".join(numbers))
    return table


def _strategies(placement: Placement, width: int) -> Table:
    """The paper's strategies, two lines each."""
    rows = []
    for strategy in placement.strategies:
        same = set(strategy.types) == set(placement.choice.chosen)
        matched = placement.matched_rank(strategy)
        ranks = [placement.rank, *([matched] if matched and matched != placement.rank else [])]
        sizes = map("\n".join, zip(*(_size(placement, rank, strategy) for rank in ranks), strict=True))
        cells = {
            "": CHOSEN if same else "",
            "strategy": strategy.name,
            "types": "every type" if strategy.key == "all" else ", ".join(strategy.types),
            **dict(zip(("rank", "parameters", "share", "on disk"), sizes, strict=True)),
        }
        rows.append(Row(cells, "bold green" if same else ""))
    headers = ("", "strategy", "types", ">rank", ">parameters", ">share", ">on disk")
    return fitted(headers, rows, width, [*wrap("types"), *drop("share", "on disk", "types"), *cut("strategy")])


def _size(placement: Placement, rank: int, strategy: Strategy) -> tuple[str, str, str, str]:
    size = placement.sizes(rank, strategy.cost)
    share = "–" if size["share"] is None else f"{size['share']:.2%}"
    return str(rank), f"{size['trainable_parameters']:,}", share, f"{size['adapter_bytes'] / 1e6:.1f} MB"
