"""How rows become texts: the forms in which people keep them, told by their columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.texts.rows import Row
from plop_cli.texts.template import Template, plain
from plop_cli.texts.text import Answered, Conversation, Message, Text, role_and_content


@dataclass(frozen=True)
class Shape:
    """`text` makes a text of a row, from `columns`; it raises PlopError, with the reason, where the row holds none.

    `said` is what was recognised, for the user to see; "" where the user said it.
    """

    columns: tuple[str, ...]
    text: Callable[[Row], Text]
    said: str = ""


PAIRS = (
    (("prompt", "completion"), "", "prompt and completion, as TRL writes them"),
    (("prompt", "chosen"), "", "prompt and chosen, of pairs of preferences"),
    (("instruction", "input", "output"), "\n", "instruction, input and output, as alpaca writes them"),
    (("instruction", "output"), "\n", "instruction and output, as alpaca writes them"),
    (("instruction", "context", "response"), "\n", "instruction, context and response, as Dolly writes them"),
    (("prompt", "response"), "\n", "prompt and response"),
    (("question", "answer"), "\n", "question and answer"),
)
"""Columns of which the last is the answer, what stands between them where they are strings, and how that is said."""

TURNS = ("messages", "conversations", "conversation")
_ID = re.compile(r"(?i:(.*[_\- ])?(id|ids|uid|uuid|guid|idx|index|key|hash|sha\d*|md5))|.*[a-z](Id|ID|Idx|Uuid)")


def by_template(template: str, columns: Sequence[str], source: str) -> Shape:
    """Texts by a template. Raises PlopError where it is malformed, or names a column that is not there."""
    made = Template(template)
    names = [field if field in columns else column for field, column in made.fields]
    for name in names:
        if name not in columns:
            raise _no_column(source, name, columns)
    return Shape(tuple(dict.fromkeys(names)), made.text)


def by_column(column: str, columns: Sequence[str], source: str) -> Shape:
    """The texts or conversations of one column."""
    if column not in columns:
        raise _no_column(source, column, columns)
    return Shape((column,), lambda row: _text(row.get(column), column))


def recognised(head: Sequence[Row], source: str, *, typed: bool, remedy: str = "give --column") -> Shape:
    """The form that these rows are in. Raises PlopError, with the `remedy`, where several columns or none are meant."""
    kinds = {name: _kind([row.get(name) for row in head], typed) for name in columns_of(head)}
    if "text" in kinds:
        return Shape(("text",), lambda row: _text(row.get("text"), "text"), "the column text")
    for name in TURNS:
        if name in kinds:
            system = ["system"] if kinds.get("system") == "text" else []
            return Shape((name, *system), partial(_turns, name), f"conversations of the column {name}")
    several = {"list", "turns"} & set(kinds.values())
    strings = [name for name, kind in kinds.items() if kind == "text" and not _ID.fullmatch(name)]
    for names, between, said in PAIRS:
        # A number is an answer, but beside a list of choices it counts them, and beside other texts it may be anything.
        numbers = {"number"} if strings and set(strings) <= set(names) and not several else set()
        if set(names) <= kinds.keys() and {kinds[name] for name in names} <= {"text", "turns", "nothing"} | numbers:
            return Shape(names, partial(_pair, names, between), said)
    if {"chosen", "rejected"} <= kinds.keys():
        return Shape(("chosen",), lambda row: _text(row.get("chosen"), "chosen"), "chosen, of pairs of preferences")
    if len(strings) == 1 and not several:
        (only,) = strings
        return Shape((only,), lambda row: _text(row.get(only), only), f"the column {only}")
    raise PlopError(f"which column of {source} is the text? {remedy}; there are {', '.join(kinds)}")


def columns_of(head: Sequence[Row]) -> list[str]:
    """The columns of all these rows, in the order in which they come."""
    return list(dict.fromkeys(name for row in head for name in row))


def _no_column(source: str, name: str, columns: Sequence[str]) -> PlopError:
    return PlopError(f"{source} has no column {name!r}; there are {', '.join(columns)}")


def _kind(values: Sequence[Any], typed: bool) -> str:
    """What a column holds: text, number (or true and false), turns of a conversation, list, other, or nothing."""
    filled = [value for value in values if value is not None and value != ""]
    lists = [value for value in filled if isinstance(value, list)]
    if lists:
        return "turns" if all(role_and_content(turn) for value in lists for turn in value[:1]) else "list"
    strings = [value for value in filled if isinstance(value, str)]
    if not strings:
        numbers = all(isinstance(value, int | float) for value in filled)
        return ("number" if numbers else "other") if filled else "nothing"
    return "text" if typed or not all(map(_is_number, strings)) else "number"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip().lower() in ("true", "false")
    return True


def _text(value: Any, column: str) -> Text:
    """A value of a column that is to be a text: a string, a conversation, or what is written without quotes."""
    if isinstance(value, list):
        return conversation(value, column)
    if isinstance(value, dict):
        raise PlopError(f"{column} holds an object; name what is inside with --template, as {{{column}.name}}")
    return plain(value)


def _turns(column: str, row: Row) -> Text:
    value = row.get(column)
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list that CSV keeps as JSON
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise PlopError(f"{column} begins as JSON and is none ({error})") from error
    text = _text(value, column)
    if isinstance(text, list) and text and row.get("system") and text[0]["role"] != "system":
        text.insert(0, {"role": "system", "content": row["system"]})
    return text


def _pair(names: Sequence[str], between: str, row: Row) -> Text:
    """Prompt and answer: strings joined, conversations appended, a string beside a conversation as a turn of it."""
    *asked, answer = (row.get(name) for name in names)
    if not any(isinstance(value, list) for value in (*asked, answer)):
        parts = [text for text in map(plain, asked) if text.strip()]
        return Answered(between.join(parts), plain(answer), between) if plain(answer).strip() else between.join(parts)
    turns = Conversation()
    for name, value in zip(names, (*asked, answer), strict=True):
        role = "assistant" if name == names[-1] else "user"
        turns.begins = len(turns)
        turns += conversation(value, name) if isinstance(value, list) else [{"role": role, "content": plain(value)}]
    return turns


def conversation(value: Sequence[Any], column: str) -> list[Message]:
    """Turns in the form that chat templates take. Raises PlopError for what are no turns, or hold more than text."""
    turns = []
    for number, turn in enumerate(value, 1):
        said = role_and_content(turn)
        if said is None:
            raise PlopError(f"{column} is a list of no turns (role and content, or from and value)")
        role, content = said
        if isinstance(content, list):
            parts = [str(part.get("text")) for part in content if isinstance(part, dict) and part.get("type") == "text"]
            if len(parts) < len(content):
                raise PlopError(f"turn {number} of {column} holds more than text")
            turn, content = {**turn, "content": "".join(parts)}, "".join(parts)
        elif not isinstance(content, str | None):
            raise PlopError(f"turn {number} of {column} is {type(content).__name__}, not text")
        turns.append(turn if "role" in turn else {"role": role, "content": content})
    return turns
