"""Values as a notebook shows them: a title, a small table with bars, sentences below.

html(run_card(run))       # escaped, without script or network; its text has the notebook's own colour, light or dark
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from plop_cli.comparison.values import Column, Comparison
from plop_cli.method.floor import told
from plop_cli.placement.placement import Placement
from plop_cli.placement.sentences import sentences
from plop_cli.printable import printable, short
from plop_cli.racing.sentences import answer, notes, plus_minus, verdict
from plop_cli.racing.verdicts import Standing, baseline_of, stand, winner
from plop_cli.runs.listing import Runs
from plop_cli.words import counted, listed
from plop_registry import Race, Run

MOST = 60
"""How many lines of a table are shown: the first, where there are more."""

_CHOSEN = "●"
_NFN = "0 … baseline 1 …"

_STYLE = """
.plop{font-size:13px;line-height:1.5;max-width:100%;overflow-x:auto}
.plop table{border-collapse:collapse;margin:0 0 .4em;border:0;font-size:inherit}
.plop caption{text-align:left;font-weight:600;padding:.2em .7em .4em;color:inherit}
.plop th,.plop td{padding:.12em .7em;text-align:left;border:0;background:none;color:inherit}
.plop th,.plop .n{white-space:nowrap}
.plop thead :is(th,td){border-bottom:1px solid currentColor;font-weight:600}
.plop .n{text-align:right;font-variant-numeric:tabular-nums}
.plop .c{font-weight:600}
.plop p{margin:.15em .7em;max-width:60em;color:inherit}
.plop i{display:block;height:8px;background:#7f8b97}
.plop .c i{background:#2f7fc9}
.plop .b{min-width:8em}
.plop .t{position:relative;display:block}
.plop s{position:absolute;top:-4px;bottom:-4px;border-left:1px dashed currentColor;text-decoration:none}
"""


@dataclass(frozen=True)
class Line:
    """A row of the table; `bar` is a length in the card's unit, and `chosen` what gets LoRA."""

    cells: Sequence[str]
    bar: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Card:
    """What is shown. A column whose name begins with > is aligned to the right.

    `bars` is the name of the column of bars, and `mark` where a dashed line crosses them.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Line]
    said: Sequence[str]
    bars: str = _NFN
    mark: float | None = 1.0


def html(card: Card) -> str:
    """The card as HTML that brings its own style."""
    heads = [_cell("th", name.removeprefix(">"), name) for name in (*card.columns, card.bars)]
    top = max([card.mark or 0.0, *(line.bar for line in card.lines if line.bar and math.isfinite(line.bar))]) or 1.0
    more = len(card.lines) - MOST
    said = [*([f"{more:,} more are not shown."] if more > 0 else []), *card.said]
    return Markup(
        '<div class="plop" role="group" aria-label="{}" tabindex="0"><style>{}</style>'
        "<table><caption>{}</caption><thead><tr>{}</tr></thead>"
        "<tbody>{}</tbody></table>{}</div>"
    ).format(
        printable(card.title) or "NFN by module type",
        Markup(_STYLE),
        printable(card.title),
        Markup("").join(heads),
        Markup("").join(_row(card, line, top) for line in card.lines[:MOST]),
        Markup("").join(Markup("<p>{}</p>").format(printable(text)) for text in said),
    )


def _row(card: Card, line: Line, top: float) -> Markup:
    cells = [_cell("td", text, name) for text, name in zip(line.cells, card.columns, strict=True)]
    share = 100 * line.bar / top if line.bar and math.isfinite(line.bar) else 0.0
    mark = "" if card.mark is None else Markup('<s style="left:{:.1f}%"></s>').format(100 * card.mark / top)
    bar = Markup('<td class="b" aria-hidden="true"><span class="t"><i style="width:{:.1f}%"></i>{}</span></td>')
    chosen = Markup(' class="c"') if line.chosen else ""
    return Markup("<tr{}>{}{}</tr>").format(chosen, Markup("").join(cells), bar.format(share, mark))


def _cell(tag: str, text: str, column: str) -> Markup:
    side = Markup(' class="n"') if column.startswith(">") else ""
    tag = tag if text else "td"  # a heading says something
    return Markup("<{}{}{}>{}</{}>").format(
        tag, Markup(' scope="col"') if tag == "th" else "", side, printable(text), tag
    )


def run_card(run: Run) -> Card:
    """A run: NFN by type, what to adapt, how sure that is."""
    name = f"{run.model_name}@{run.label_name}" if run.label_name else run.model_name
    sure = told(run.confidence, run.samples)
    how = "how sure that is cannot be told" if sure is None else f"the same set in {sure:.1%} of resamples"
    called = f", run {run.id[:8]}" if run.id else ""
    return Card(
        title=short(name) + (f" on {short(run.task_name)}" if run.task_name else ""),
        columns=("", "type", ">NFN", ">±", ">modules"),
        lines=[
            Line(
                [_CHOSEN * each.recommended, short(each.type), _nfn(each.nfn), _nfn(each.stderr), f"{each.modules:,}"],
                each.nfn,
                each.recommended,
            )
            for each in run.types
        ],
        said=[
            f"LoRA belongs into {', '.join(map(short, run.recommended))} ({how}).",
            f"{counted(run.samples, 'text')}, {counted(run.tokens, 'token')}, {short(run.dtype)}{called}.",
            *(f"Mind: {short(warning)}." for warning in run.warnings),
        ],
    )


def runs_card(runs: Runs) -> Card:
    """The history: a line for each run, with a bar for how sure its choice is."""
    return Card(
        title=f"{counted(len(runs), 'run')} of the registry" if runs else "No run fits; plop score adds runs",
        columns=("run", ">when", "model", "revision", "task", ">texts", "LoRA into", ">same set in"),
        lines=[_listed(run, told(run.confidence, run.samples)) for run in runs],
        said=[],
        bars="of resamples",
    )


def _listed(run: Run, sure: float | None) -> Line:
    cells = [
        run.id[:8],
        f"{run.created_at.astimezone():%Y-%m-%d %H:%M}",
        short(run.model_name),
        short(run.label_name) or run.model_revision[:8],
        short(run.task_name),
        f"{run.samples:,}",
        listed(list(map(short, run.recommended))),
        _percent(sure),
    ]
    return Line(cells, sure)


def placement_card(placement: Placement) -> Card:
    """A placement: the units that were chosen from, and the sentences that say why."""
    choice = placement.choice
    of = f" on {listed(list(map(short, placement.tasks)))}" if placement.tasks else ""
    units = [(unit, nfn, unit in choice.chosen) for unit, nfn in choice.nfn.items()]
    return Card(
        title=f"Adapters for {short(placement.model)}{of}",
        columns=("", "type", ">NFN", ">chosen in"),
        lines=[
            Line([_CHOSEN * chosen, short(unit), _nfn(nfn), _percent(choice.frequency.get(unit))], nfn, chosen)
            for unit, nfn, chosen in units
        ],
        said=list(sentences(placement)),
    )


def comparison_card(comparison: Comparison) -> Card:
    """A comparison: NFN of each run, the difference from the baseline, and whether it is more than chance."""
    first = comparison.baseline
    lines = []
    for name in comparison.types:
        score = first.scores.get(name)
        cells = [short(name), *(" ".join(_compared(column, name)) for column in comparison.columns)]
        lines.append(Line(cells, score.nfn if score else None, bool(score and score.recommended)))
    return Card(
        title=f"{counted(len(comparison.columns), 'run')} by {comparison.by}",
        columns=("type", *(f">{short(column.name)}" for column in comparison.columns)),
        lines=lines,
        said=[
            comparison.sentence,
            f"{_CHOSEN} LoRA belongs here. Signed: the difference from {short(first.name)}; * is more than chance.",
            *(f"Mind: {note}." for note in comparison.notes),
        ],
        bars=f"NFN of {short(first.name)}",
    )


def _compared(column: Column, name: str) -> Iterator[str]:
    score = column.scores.get(name)
    yield "–" if score is None else f"{_CHOSEN} " * score.recommended + _nfn(score.nfn)
    difference = column.differences.get(name)
    if difference and math.isfinite(difference.nfn):
        yield f"({difference.nfn:+.3f}{' *' * difference.significant})".replace("-", "−")


def race_card(race: Race) -> Card:
    """A race: who stands where, and the sentence. The bars say how far each is behind the lowest loss."""
    if not race.entries:
        title = f"{short(race.model_id)} on {short(race.data_id)}"
        return Card(title, (), (), ["Nobody has raced yet."], bars="", mark=None)
    chosen, standings = winner(race), stand(race)
    least = min((each.loss.mean for each in standings if math.isfinite(each.loss.mean)), default=0.0)
    won = [bool(chosen and each.entry == chosen.entry) for each in standings]
    return Card(
        title=f"{short(race.model_id)} on {short(race.data_id)}",
        columns=("", "contestant", "types", ">rank", ">test loss", f">from {short(baseline_of(race).name)}", "verdict"),
        lines=[
            Line(_standing(each, _CHOSEN * first), each.loss.mean - least, first)
            for each, first in zip(standings, won, strict=True)
        ],
        said=[answer(race), *(f"Mind: {note}." for note in notes(race))],
        bars="behind the lowest",
        mark=None,
    )


def _standing(each: Standing, mark: str) -> list[str]:
    entry = each.entry
    behind = plus_minus(each.behind, sign=True) if each.behind else ""
    types = listed(list(map(short, entry.types)))
    return [mark, short(entry.name), types, str(entry.rank), plus_minus(each.loss), behind, verdict(each)]


def _nfn(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.1%}"
