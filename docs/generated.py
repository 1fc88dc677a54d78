"""What the site shows of plop itself: a page has `<!-- generated: commands -->` where the options of all commands go.

python docs/generated.py        # what docs/registry.md has of the views
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import getitem
from pathlib import Path
from typing import Any

from typer.main import get_command

from plop_cli.cli.app import app
from plop_cli.cli.settings import GUARDED, options_of, variable_of
from plop_registry.schema import Base
from plop_registry.views import VIEWS

MARK = re.compile(r"<!-- generated: (\w+) -->")


def filled(markdown: str) -> str:
    """The page with what its marks stand for."""
    return MARK.sub(lambda mark: "\n".join(PARTS[mark[1]]()), markdown)


def commands() -> Iterator[str]:
    """All commands, as their `--help` has them: a table of options for each panel."""
    group = get_command(app)
    settable = options_of(group)
    for words, command in _commands(group):
        context = command.make_context(words[-1], [], resilient_parsing=True)
        own = reduce(getitem, words[1:], settable)
        variables = {option.name: variable_of(name, own) for name, option in own.items()}
        yield f"\n## {' '.join(words)}\n"
        yield f"```text\n{' '.join([*words, *command.collect_usage_pieces(context)])}\n```\n"
        yield _text(command.help)
        for panel, params in groupby(command.get_params(context), lambda param: param.rich_help_panel):
            yield f"\n**{panel or 'Arguments'}**\n"
            yield from _table(
                ("option" if panel else "argument", "what", "default", "variable"),
                ([*_cells(param, context), _code(variables.get(param.name))] for param in params),
            )


def _commands(group: Any, words: tuple[str, ...] = ("plop",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


def _cells(param: Any, context: Any) -> Iterator[str]:
    """How it is given, what it is, its default."""
    given, told = param.get_help_record(context)
    said, _, rest = told.partition("  [")
    facts = [fact for fact in rest.removesuffix("]").split("; ") if fact]
    default = next((fact.removeprefix("default: ") for fact in facts if fact.startswith("default: ")), None)
    limits = "".join(f" ({fact})" for fact in facts if not fact.startswith("default: "))
    yield _code(given)
    yield _text(said + limits)
    yield _code(default)


def settings() -> Iterator[str]:
    """All settings, and which commands have them."""
    options = options_of(get_command(app))
    homes: dict[str, list[str]] = {}
    for name, command, own in _flat(options):
        if variable_of(name, own):
            homes.setdefault(name, []).append(command)
    every = len({command for _, command, _ in _flat(options)})
    yield from _table(
        ("key", "variable", "of", "not in a project's file"),
        (
            [
                _code(name.replace("_", "-")),
                _code(f"$PLOP_{name.upper()}"),
                "all" if len(commands) == every else ", ".join(map(_code, commands)),
                "×" if name in GUARDED else "",
            ]
            for name, commands in sorted(homes.items())
        ),
    )


def _flat(options: Any, command: str = "") -> Iterator[tuple[str, str, Any]]:
    for name, option in options.items():
        if isinstance(option, dict):
            yield from _flat(option, f"{command} {name}".strip())
        else:
            yield name, command, options


def views() -> Iterator[str]:
    """The views' columns, each explained as the JSON form explains it. docs/registry.md has them as they are here."""
    meanings = _meanings()
    for view, (columns, _) in VIEWS.items():
        yield f"### {view}\n\n{ROWS[view]} for each row.\n"
        yield from _table(
            ("column", "type", "what"),
            ([_code(name), _type_of(source), _text(meanings[view][name])] for name, source in columns.items()),
        )


def tables() -> Iterator[str]:
    """The tables' columns."""
    for table in Base.metadata.sorted_tables:
        yield f"\n### Table {table.name}\n"
        rows = (
            [
                _code(column.name),
                _type(column),
                "yes" if column.primary_key else "",
                ", ".join(_code(key.target_fullname) for key in column.foreign_keys),
            ]
            for column in table.columns
        )
        yield from _table(("column", "type", "key", "refers to"), rows)


ROWS = {
    "runs": "A run",
    "type_scores": "A module type of a run",
    "module_scores": "A module of a run",
    "races": "A race",
}
TYPES = {
    "BLOB": "bytes",
    "BOOLEAN": "boolean",
    "DATETIME": "moment (UTC)",
    "FLOAT": "number",
    "INTEGER": "integer",
    "JSON": "JSON",
    "VARCHAR": "text",
}
ALIASES = {"r": "runs", "m": "models", "t": "tasks", "s": "module_scores", "c": "races"}
"""What the views call the tables."""


def _type_of(source: str) -> str:
    alias, _, column = source.partition(".")
    if alias not in ALIASES:
        return "integer"  # a count
    scores = Base.metadata.tables["type_scores"].columns
    found = Base.metadata.tables[ALIASES[alias]].columns.get(column)
    return _type(scores[column] if found is None else found)


def _type(column: Any) -> str:
    return TYPES[str(column.type)]


def _meanings() -> dict[str, dict[str, str]]:
    """What the columns of each view are, in the words of the JSON forms."""
    forms = Path(__file__).parent / "reference/schemas"
    run, race = (json.loads((forms / f"{name}.json").read_text()) for name in ("run", "race"))
    model, task, kind, module = (_described(run["$defs"][name]) for name in ("model", "task", "type", "module"))
    shared = {
        "run": "The run's id.",
        "model": model["id"],
        "model_revision": model["revision"],
        "label": model["label"],
        "task": task["id"],
        "task_revision": task["revision"],
    }
    return {
        "runs": {**model, **task, **_described(run), **shared, "id": run["$defs"]["id"]["description"]},
        "type_scores": {**kind, **shared},
        "module_scores": {**module, **shared},
        "races": {
            **_described(race),
            **shared,
            "id": race["properties"]["race_id"]["description"],
            "data": race["properties"]["data_id"]["description"],
            "contestants": "How many raced.",
            "laps": "How many trainings.",
        },
    }


def _described(form: Any) -> dict[str, str]:
    return {name: value.get("description", "") for name, value in form["properties"].items()}


PARTS = {"commands": commands, "settings": settings, "tables": tables}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    rows = [*rows]
    kept = [number for number, name in enumerate(head) if any(row[number] for row in rows)]
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row[number] for number in kept)} |"
    yield ""


def _code(text: str | None) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _text(help: str) -> str:
    """Rich's markup as Markdown; whatever else Markdown would read as its own is escaped."""
    return re.sub(
        r"\[bold\](.*?)\[/bold\]|([<>*_|`])",
        lambda found: f"\\{found[2]}" if found[2] else f"`{found[1]}`",
        help,
    )


if __name__ == "__main__":
    print("\n".join(views()), end="")
