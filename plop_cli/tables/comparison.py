"""A comparison → a rich renderable, or Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plop_cli.comparison.sentences import basis
from plop_cli.comparison.values import Column, Comparison
from plop_cli.method.significance import LEVEL
from plop_cli.opinions.methods import METHODS
from plop_cli.tables.fit import shortened
from plop_cli.tables.plain import CHOSEN, plain_table, plus_minus
from plop_cli.tables.rows import to_markdown
from plop_cli.words import listed

_RUN, _BRIEF = 19, 12  # what a run's column takes at least, padding included: with standard errors, and without


def comparison_table(comparison: Comparison, *, width: int) -> RenderableType:
    """Types down, runs across: NFN, and under it the difference to the baseline; then what it means.

    Runs that do not fit into `width` go into tables of their own, each beside the baseline again. Where not even one
    fits beside it, standard errors are left out. Other signals have none.
    """
    first = max(map(len, ["ranking τ", *comparison.types])) + 4
    brief = comparison.signal != "nfn" or first + 2 * _RUN > width
    least = _BRIEF if brief else _RUN
    room = max(1, (width - first) // least - 1)
    starts = range(0, len(comparison.others), room)
    parts = [[comparison.baseline, *comparison.others[start : start + room]] for start in starts]
    tables = []
    for part in parts:
        columns = [column for column in comparison.columns if column in part]
        each = (width - first) // len(columns) - 3
        tables.append(_table(comparison, columns, each, brief=brief))
    return Group(*tables, *map(Text, _legend(comparison)), Text(comparison.sentence, style="bold"))


def _table(comparison: Comparison, columns: Sequence[Column], each: int, *, brief: bool) -> Table:
    """Args: `each`, what there is for each run; longer names lose their middles."""
    table = plain_table("type")
    table.columns[0].no_wrap, table.columns[0].overflow = True, "ellipsis"
    for column in columns:
        about = f"{column.run.id[:8]}{' baseline' if column is comparison.baseline else ''}"
        least = (_BRIEF if brief else _RUN) - 3
        name = shortened(column.name, max(each, least))
        table.add_column(f"{name}\n{about}", justify="right", overflow="fold", min_width=least)
    for name in comparison.types:
        table.add_row(name, *(_cell(column, name, _digits(comparison), brief=brief) for column in columns))
    table.add_section()
    for name, cells in _summary(comparison, columns).items():
        table.add_row(name, *cells)
    return table


def _digits(comparison: Comparison) -> str:
    """How a value is formatted: other signals are of any size."""
    return ".3f" if comparison.signal == "nfn" else ".4g"


def _cell(column: Column, name: str, digits: str, *, brief: bool) -> Text:
    if name not in column.scores:
        return Text("–", style="dim")
    cell = Text(
        _score(column, name, digits, brief=brief), style="bold green" if column.scores[name].recommended else ""
    )
    if difference := column.differences.get(name):
        style = "bold" if difference.significant else "not bold dim"
        cell.append(f"\n{_difference(column, name, digits, brief=brief)}", style=style)
    return cell


def _score(column: Column, name: str, digits: str, *, brief: bool) -> str:
    score = column.scores[name]
    return f"{CHOSEN} " * score.recommended + f"{score.nfn:{digits}}" + _error(score.stderr, brief=brief)


def _difference(column: Column, name: str, digits: str, *, brief: bool) -> str:
    difference = column.differences[name]
    if math.isnan(difference.nfn):
        return "–"
    return "* " * difference.significant + f"{difference.nfn:+{digits}}" + _error(difference.stderr, brief=brief)


def _error(value: float | None, *, brief: bool) -> str:
    return "" if brief else f" ± {plus_minus(value)}"


def _summary(comparison: Comparison, columns: Sequence[Column]) -> dict[str, list[str]]:
    """What stands under the types: how alike the ranking is, and which picks the baseline has not."""
    taus, picks = [], []
    for column in columns:
        moves = [f"+{name}" for name in column.gained] + [f"−{name}" for name in column.lost]
        taus.append("" if column is comparison.baseline else "–" if math.isnan(column.tau) else f"{column.tau:.2f}")
        picks.append("" if column is comparison.baseline else " ".join(moves) or "same")
    return {"ranking τ": taus, "picks": picks}


def _legend(comparison: Comparison) -> Iterator[str]:
    if comparison.signal != "nfn":
        method = METHODS[comparison.signal]
        end = "lowest" if method.lowest else "highest"
        yield (
            f"{CHOSEN} {method.name} would adapt these, the {end}. Signed: the difference to "
            f"{comparison.baseline.name}; these values have no standard errors."
        )
        yield from (f"Mind: {note}." for note in comparison.notes)
        return
    yield (
        f"{CHOSEN} LoRA belongs here. ± one standard error. Signed: the difference to {comparison.baseline.name}; "
        f"* is more than chance: the risk of even one such mark by chance is {LEVEL:.0%} (Holm)."
    )
    of: dict[str, list[str]] = {}
    for column in comparison.others:
        of.setdefault(basis(column, comparison.baseline), []).append(column.name)
    for how, names in of.items():
        yield f"{listed(names)}: {how}."
    for note in comparison.notes:
        yield f"Mind: {note}."


def comparison_markdown(comparison: Comparison) -> str:
    """The same for a pull request: what it means, the table, and what to mind."""
    columns = comparison.columns
    rows = [
        {"type": name, **{column.name: _markdown_cell(comparison, column, name) for column in columns}}
        for name in comparison.types
    ]
    for what, cells in _summary(comparison, columns).items():
        rows.append({"type": what, **dict(zip((column.name for column in columns), cells, strict=True))})
    legend = "\n\n".join(_legend(comparison)).replace("*", r"\*")
    return f"**{comparison.sentence}**\n\n{to_markdown(rows)}\n{legend}\n"


def _markdown_cell(comparison: Comparison, column: Column, name: str) -> str:
    if name not in column.scores:
        return ""
    digits, brief = _digits(comparison), comparison.signal != "nfn"
    score = _score(column, name, digits, brief=brief)
    if name not in column.differences:
        return score
    return f"{score}<br>{_difference(column, name, digits, brief=brief)}".replace("*", r"\*")
