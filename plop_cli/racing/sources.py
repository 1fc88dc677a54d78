"""Where the examples of a race come from: texts, and whether they hold answers.

source = read("train.jsonl")
source.texts, source.said
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.texts.readers import rows_of_file, rows_of_hub, rows_of_stream
from plop_cli.texts.rows import InMemory, Rows, Streamed
from plop_cli.texts.shapes import TURNS, recognised
from plop_cli.texts.text import Answered, Conversation, Text


@dataclass(frozen=True, slots=True)
class Source:
    """Texts under a name. `said` is what form they were in, `empty` how many rows had no answer or no text."""

    name: str
    texts: tuple[Text, ...]
    said: str = ""
    empty: int = 0


def read(source: str) -> Source:
    """The texts of a file, of a data set on the hub (org/name[:config][@split]), or of `-`, standard input.

    Raises PlopError where it cannot be read, its form is not recognised, or nothing in it has an answer.
    """
    if source == "-":
        return _shaped(rows_of_stream(sys.stdin.buffer if sys.stdin else None)[0], "-")
    path = Path(source).expanduser()
    if path.is_file():
        return _shaped(rows_of_file(path), path.name)
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise PlopError(f"no file {source}; give a file, org/name on the hub, or -")
    name, _, split = source.partition("@")
    name, _, config = name.partition(":")
    rows = rows_of_hub(name, config or None, split or None)[0]
    if isinstance(rows, Streamed):
        raise PlopError(f"{source} is too large to be read whole; write the examples to train on to a file")
    return _shaped(rows, source)


def shaped(rows: Sequence[Mapping[str, Any]], name: str) -> Source:
    """The texts of rows, by the form that is recognised."""
    return _shaped(InMemory(rows), name)


def _shaped(rows: Rows, name: str) -> Source:
    head = rows.head()
    if not head:
        raise PlopError(f"{name} is empty; give examples")
    shape = recognised(head, name, typed=rows.typed, remedy="call it text, or two of them question and answer")
    answered = len(shape.columns) > 1 or shape.columns[0] in TURNS
    texts: list[Text] = []
    for index, row in enumerate(rows, 1):
        try:
            text = shape.text(row)
        except PlopError as error:
            raise PlopError(f"{name}, row {index}: {error}") from error
        if has_answer(text) if answered else text:
            texts.append(text)
    if not texts:
        raise PlopError(f"no row of {name} has an answer; a race trains on answers ({shape.said})")
    return Source(name, tuple(texts), shape.said, len(rows) - len(texts))


def has_answer(text: Text) -> bool:
    """Whether there is something after a prompt."""
    return bool(text.completion.strip()) if isinstance(text, Answered) else bool(answers_of(text))


def answers_of(text: Text) -> list[int]:
    """The turns that are answers."""
    if isinstance(text, str):
        return []
    begins = text.begins if isinstance(text, Conversation) else 0
    turns = enumerate(text)
    return [index for index, turn in turns if index >= begins and turn["role"] == "assistant" and turn.get("content")]


def prompt_of(text: Text) -> Text:
    """What is there before the model's part begins: what PLoP scores."""
    if isinstance(text, Answered):
        return text.prompt
    if isinstance(text, str):
        return text
    return text[: answers[-1]] if (answers := answers_of(text)) and answers[-1] else text


def texts_of(examples: Iterable[Text | Mapping[str, Any]], name: str) -> Source:
    """What a caller has in memory: texts, conversations, or rows of which the form is recognised."""
    given = list(examples)
    if given and all(isinstance(each, Mapping) for each in given):
        return shaped([each for each in given if isinstance(each, Mapping)], name)
    texts = [each for each in given if isinstance(each, str | list)]
    return Source(name, tuple(texts))
