"""A program's section of docs/evidence.md: its prose, tables, numbers, and the command that makes it again."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence

from experiments.shared.program import Results, stem
from plop_cli.method.significance import critical, two_sided
from plop_cli.models.source import DEMO


def section(text: str) -> str:
    """The Markdown with its prose in lines of at most 120 characters."""
    blocks = text.strip().split("\n\n")
    return "\n\n".join(block if block[0] in "#|!`" else _paragraph(block) for block in blocks) + "\n"


def _paragraph(text: str) -> str:
    """The text as lines of at most 120 characters, whatever lines it came in."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table; its columns are the keys of the first row. What is a number stands on the right."""
    columns = list(rows[0])
    right = [isinstance(rows[0][column], int | float) or str(rows[0][column])[:1].isdigit() for column in columns]
    lines = [columns, ["--:" if number else "---" for number in right]]
    lines += [[str(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its 95 % t-interval; NaN where one value tells none."""
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return mean, math.nan
    quantile = critical(lambda t: two_sided(t, 1.0, count - 1))
    return mean, quantile * statistics.stdev(values) / math.sqrt(count)


def show(values: Sequence[float], digits: int = 3) -> str:
    """`interval` as people write it: "1.007 ± 0.004", or the mean alone."""
    mean, half = interval(values)
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def figure(results: Results, name: str, alt_text: str) -> str:
    """The Markdown that shows docs/evidence/NAME.svg, of the results' model."""
    return f"![{alt_text}](evidence/{stem(name, results.get('model', DEMO))}.svg)"


def command(results: Results) -> str:
    """The line that makes a program's results again, as the last of its section."""
    options = f"{' --quick' if results['quick'] else ''} --seeds {' '.join(map(str, results['seeds']))}"
    for option in ("data", "set"):
        options += f" --{option} {' '.join(results[option])}" if results.get(option) else ""
    if results.get("model", DEMO) != DEMO:
        options += f" --model {results['model']}"
    spent = f"{results['seconds'] / 60:.0f} minutes" if results["seconds"] > 90 else f"{results['seconds']:.0f} seconds"
    where = f"torch {results['versions']['torch']}, {results['device']}, {spent}"
    return f"`python -m experiments.{results['name']}{options}` ({where})"
