"""Runs → one self-contained HTML page, a Markdown page, or the figures as files. Nothing here writes.

    story = tell(runs, registry)
    render_html(story, written=datetime.now(UTC), command="plop report")

The page needs nothing outside of itself, and its policy forbids all else: two scripts and a stylesheet are let in by
their hashes. Each chart is a picture until Vega draws it anew, so that the page can be read without scripts.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from plop_cli.method.choice import SETTLED
from plop_cli.method.estimates import RESAMPLES
from plop_cli.method.floor import LEAST_SAMPLES
from plop_cli.method.significance import LEVEL
from plop_cli.names import place_of
from plop_cli.placement.peft import arguments, task_type
from plop_cli.placement.ranks import DEFAULT_RANK
from plop_cli.placement.targets import Targeting, target
from plop_cli.placement.trainers.python import call
from plop_cli.printable import short
from plop_cli.racing.sentences import answer
from plop_cli.report import races, vega
from plop_cli.report.answers import POINTS, Answer
from plop_cli.report.block import block
from plop_cli.report.charts import layers_of
from plop_cli.report.figures import draw
from plop_cli.report.palette import PALETTE
from plop_cli.report.story import Story
from plop_cli.runs.axes import AXES
from plop_cli.runs.rerun import command as score_command
from plop_cli.version import __version__
from plop_cli.words import counted, listed
from plop_registry import Run, TypeScore

HERE = Path(__file__).parent

COMMENT = 65_536
"""Characters that GitHub lets a comment have."""

_SHORTER = (10_000, 100, 30, 10, 3, 0)  # rows of a table; with none, all but what to adapt is left out
_CARDS = 6  # up to as many picks have a card each
_CELL = 500  # characters of a cell
_FILTERED = 8  # from as many answers on, the page has filters


def render_html(story: Story, *, written: datetime, command: str, title: str = "", theme: str = "auto") -> str:
    """The page. The same arguments give the same bytes.

    Args: `written` and `command` are what the page says of itself; `theme` is auto (the reader's own), light or dark.
    """
    environment, figures = templates(), draw(story)
    colours = "".join(f"--{name}:light-dark({light},{dark});" for name, (light, dark) in PALETTE.items())
    swatches = "".join(f".{name}{{--at:var(--{name})}}" for name in PALETTE)
    style = f":root{{{colours}}}{swatches}\n{_source(environment, 'style.css')}"
    scripts = [vega.runtime(), _source(environment, "script.js")]
    sections = {
        "answer": ("What to adapt", True),
        "types": ("NFN by module type", figures.types),
        "maps": ("NFN-map", figures.maps),
        "comparison": ("Comparison", figures.comparisons),
        "time": ("Over time", figures.histories),
        "opinions": ("Second opinions", story.opinions),
        "race": ("Race", figures.races),
        "spread": ("Spread", figures.layers or figures.samples or story.damaged),
        "provenance": ("Provenance", True),
        "reading": ("How to read NFN", True),
    }
    return environment.get_template("page.html.j2").render(
        **_told(story, written, command, title),
        figures=figures,
        contents=[(name, text) for name, (text, said) in sections.items() if said],
        filters=len(story.answers) >= _FILTERED,
        theme=theme,
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(style, scripts),
        chart_config=vega.PAGE_CONFIG,
    )


def render_markdown(story: Story, *, written: datetime, command: str, title: str = "") -> str:
    """The words and tables of the page, for a pull request, a model card or a wiki.

    It fits into a comment on GitHub: where it is too long, its tables have fewer rows and say so.
    """
    template, told = templates().get_template("report.md.j2"), _told(story, written, command, title)
    for most in _SHORTER:
        text = re.sub(r"\n{3,}", "\n\n", template.render(**told, most=most))
        if len(text) <= COMMENT:
            break
    return text


def pictures(story: Story, form: str) -> Iterator[tuple[str, bytes]]:
    """Every figure as a file: its name and its bytes. Args: `form`, svg, png or pdf."""
    for number, figure in enumerate(draw(story), start=1):
        name = re.sub(r"[^a-z0-9]+", "-", figure.label.lower()).strip("-")
        yield f"{number:02}-{name[:80]}.{form}", vega.picture(figure.spec, form, figure.label)


def _told(story: Story, written: datetime, command: str, title: str) -> dict[str, Any]:
    """What both pages say."""
    models, tasks = (
        names[0] if len(names) == 1 else f"{len(names)} {what}"
        for what, names in (("models", story.models), ("tasks", story.tasks))
    )
    return {
        "title": title or f"Where LoRA belongs: {models} on {tasks}",
        "story": story,
        "cards": len(story.picks) <= _CARDS,
        "commands": [*dict.fromkeys(score_command(answer.run, paths=False) for answer in story.answers), command],
        "written": written,
        "version": __version__,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "points": POINTS,
    }


def templates() -> Environment:
    """The templates of both pages."""
    environment = Environment(
        loader=FileSystemLoader([HERE.parent / "templates", HERE.parent.parent / "templates"]),
        undefined=StrictUndefined,
        autoescape=True,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": True}
    environment.globals["counted"] = counted
    environment.filters |= {
        "block": block,
        "cell": _cell,
        "shortly": lambda text: _cell(short(text, _CELL)),
        "day": lambda moment: f"{moment:%Y-%m-%d}",
        "minute": lambda moment: f"{moment:%Y-%m-%d %H:%M}",
        "grid": _grid,
        "line": lambda text: short(" ".join(text.split()), _CELL),
        "listed": listed,
        "nfn": _nfn,
        "config": _config,
        "raced": answer,
        "race_rows": races.table,
        "percent": lambda share: "–" if share is None else f"{share:.1%}".replace("%", " %"),
        "axis": lambda run, axis: AXES[axis](run),
        "pairs": lambda values: ", ".join(f"{name} {value}" for name, value in values.items()),
        "score": _score,
        "scored": lambda scores: ", ".join(f"{score.type} {_nfn(score.nfn)}" for score in scores) or "–",
        "settings": _settings,
        "signed": lambda value: f"{value:+.3f}".replace("-", "−"),
        "sureness": _sureness,
    }
    return environment


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str, scripts: Iterable[str]) -> str:
    """Nothing is loaded, nothing is sent, and nothing runs but these very texts."""
    hashes = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _nfn(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _score(run: Run, name: str) -> TypeScore | None:
    return next((score for score in run.types if score.type == name), None)


def _grid(answer: Answer, types: Iterable[str]) -> tuple[list[str], list[tuple[int | str, list[float | None]]]]:
    """An NFN-map as a table: those of `types` that it has, and for each layer a value, or None, for each of them."""
    cells = answer.cells(types)
    values = {(cell["layer"], cell["type"]): cell["nfn"] for cell in cells}
    names = list(dict.fromkeys(cell["type"] for cell in cells))
    return names, [(layer, [values.get((layer, name)) for name in names]) for layer in layers_of(cells)]


def _config(answer: Answer) -> str:
    """The PEFT config to paste. A type is a path's ending, so it is a target too, unless other modules share it."""
    run = answer.run
    places = {place_of(module.name): module for module in run.modules}
    stacks = [place for place, module in places.items() if module.name != place]
    chosen = [place for place, module in places.items() if module.type in run.recommended]
    names = [name for name in (*places, *(skipped.name for skipped in run.skipped)) if name not in stacks]
    targeting = target(chosen, names, stacks) if chosen else Targeting(tuple(run.recommended))
    keywords = arguments(task_type(run.architecture, places), targeting, rank=DEFAULT_RANK, alpha=2 * DEFAULT_RANK)
    return f"from peft import LoraConfig\n\n{call('config = LoraConfig', keywords).rstrip()}"


def _sureness(confidence: float | None) -> str:
    if confidence is None:
        return f"How sure this is cannot be told from fewer than {LEAST_SAMPLES} texts."
    verdict = "Settled" if confidence >= SETTLED else "Open: score more texts"
    return f"{verdict}. The same set in {round(confidence * RESAMPLES):,} of {RESAMPLES:,} resamples of the texts."


def _cell(text: str) -> Markup:
    """Text that means nothing in Markdown, on one line."""
    plain = re.sub(r"[\\`*{}\[\]#|~$]", lambda mark: f"\\{mark[0]}", " ".join(text.split()))
    return Markup(plain.replace("&", "&amp;").replace("<", "&lt;"))


def _settings(run: Run) -> str:
    """Those settings that were set, and that the row does not tell elsewhere."""
    told = {name: value for name, value in run.settings.items() if name not in ("samples", "dtype")}
    return ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, False))
