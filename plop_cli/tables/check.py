"""What a config does to a model → a rich table, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from plop_cli.tables.plain import plain_table
from plop_cli.words import counted

if TYPE_CHECKING:
    from plop_cli.checking.check import Checked

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check_table(checked: Checked) -> RenderableType:
    """Each target with what it hits, what comes of that, and the findings, worst first."""
    table = plain_table("target", ">modules", "blocks")
    for row in checked.rows:
        table.add_row(row.target, f"{len(row.modules):,}", blocks(row.layers))
    return Group(
        Text(title(checked), style="bold"),
        table,
        Text(outcome(checked)),
        *(Text(f"{finding.level}: {finding.text}", style=_STYLES[finding.level]) for finding in checked.findings),
        Text(""),
    )


def check_markdown(checked: Checked) -> str:
    """The same as Markdown."""
    rows = [f"| `{row.target}` | {len(row.modules):,} | {blocks(row.layers)} |" for row in checked.rows]
    found = [f"- **{finding.level}**: {finding.text}" for finding in checked.findings]
    head = ["| target | modules | blocks |", "|---|--:|---|"]
    return "\n".join([f"### {title(checked)}", "", *head, *rows, "", outcome(checked), "", *found]) + "\n"


def title(checked: Checked) -> str:
    """The config, whose it is, and the model."""
    return f"{checked.source} ({checked.format}) on {checked.model} ({checked.architecture})"


def outcome(checked: Checked) -> str:
    """How much is adapted."""
    share = checked.parameters / checked.of if checked.of else 0.0
    return (
        f"{counted(len(checked.adapted), 'module')} adapted, {checked.parameters:,} trainable parameters "
        f"({share:.2%}) at rank {checked.rank}"
    )


def blocks(numbers: Sequence[int]) -> str:
    """0–31, or 0–2 4–6, or – for none."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return " ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in spans) or "–"
