"""Where texts come from, how they are drawn, and what identifies them.

task = load_task("math", samples=100, seed=0)
task.texts, task.texts_hash
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from plop_cli.errors import PlopError
from plop_cli.texts.presets import PRESETS, SAMPLES
from plop_cli.texts.readers import FORMATS, Row, rows_of_file, rows_of_hub, rows_of_stream
from plop_cli.texts.text import Text, text_hash


@dataclass(frozen=True)
class Task:
    """Texts drawn from a source. `notes` says what a user would not guess, such as that the source ran short."""

    id: str
    revision: str
    texts: tuple[Text, ...]
    notes: tuple[str, ...] = ()

    @property
    def texts_hash(self) -> str:
        """sha256 over the texts, in order."""
        return hashlib.sha256(b"".join(map(text_hash, self.texts))).hexdigest()


def load_task(
    task: str, *, samples: int = 100, seed: int = 0, column: str | None = None, template: str | None = None
) -> Task:
    """Draw `samples` texts of TASK, seeded and without replacement; a larger draw begins with the smaller one.

    Args:
        task: a preset (`math`), `sample/math`, a file, `org/name[:config][@split]` on the hub, or `-` (stdin).
        column: which column holds the text (default: `text`, else `messages`, else the only column of strings).
        template: makes a text of a row instead, such as "{question}\\n{answer}".

    Raises PlopError for what does not exist, cannot be read or holds no text.
    """
    if samples < 1:
        raise PlopError(f"--samples is {samples}; give at least 1")
    if task in SAMPLES:
        content = (
            resources.files("plop_cli.texts").joinpath("samples", f"{task.removeprefix('sample/')}.jsonl").read_bytes()
        )
        rows: Sequence[Row] = [json.loads(line) for line in content.splitlines()]
        return _draw(task, _sha256(content), rows, lambda row: row["text"], samples, seed)
    if task in PRESETS:
        preset = PRESETS[task]
        rows, revision = rows_of_hub(preset.dataset, preset.config, preset.split)
        return _draw(task, revision, rows, preset.text, samples, seed)
    # What makes texts of rows is part of what the task is; a built-in task has its own way.
    chosen = (f":{column}" if column else "") + (f":{template}" if template else "")
    if task == "-":
        content = sys.stdin.buffer.read()
        rows = rows_of_stream(content)
        text_of = _text_of(rows, "standard input", column, template)
        return _draw("-" + chosen, _sha256(content), rows, text_of, samples, seed)
    path = Path(task).expanduser()
    if path.is_file():
        rows, revision = rows_of_file(path), _sha256(path.read_bytes())
        return _draw(path.name + chosen, revision, rows, _text_of(rows, task, column, template), samples, seed)
    match = re.fullmatch(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[^@]+))?(@(?P<split>.+))?", task)
    if match is None or path.suffix in FORMATS or task.startswith((".", "sample/")):
        near = difflib.get_close_matches(task, [*PRESETS, *SAMPLES], 1, 0.5)
        meant = f"did you mean {near[0]!r}?" if near else "give a preset, a file, org/name on the hub, or -"
        raise PlopError(f"no task {task!r}; {meant} (plop tasks lists them)")
    rows, revision = rows_of_hub(match["name"], match["config"], match["split"])
    return _draw(task + chosen, revision, rows, _text_of(rows, task, column, template), samples, seed)


def _draw(
    task: str, revision: str, rows: Sequence[Row], text_of: Callable[[Row], Any], samples: int, seed: int
) -> Task:
    texts: list[Text] = []
    empty = 0
    for index in np.random.default_rng(seed).permutation(len(rows)).tolist():
        if len(texts) == samples:
            break
        text = text_of(rows[index])
        if not text or (isinstance(text, str) and not text.strip()):
            empty += 1
        else:
            texts.append(text if isinstance(text, list) else str(text))
    if not texts:
        raise PlopError(f"{task} holds no text; " + ("every row is empty" if empty else "it has no rows"))
    notes = [f"{task}: {empty} empty texts were passed over"] if empty else []
    if len(texts) < samples:
        notes.append(f"{task} has {len(texts)} texts, fewer than --samples {samples}")
    return Task(task, revision, tuple(texts), tuple(notes))


def _text_of(rows: Sequence[Row], source: str, column: str | None, template: str | None) -> Callable[[Row], Any]:
    """How a row becomes a text: by template, by the named column, or by the one that can be meant."""
    if not len(rows):
        raise PlopError(f"{source} is empty; give at least one text")
    columns = list(rows[0])
    if template is not None:
        try:
            fields = [field for _, field, _, _ in Formatter().parse(template) if field]
        except ValueError as error:
            raise PlopError(f"the template {template!r} is malformed ({error}); write {{column}}") from error
        wanted = [re.split(r"[.\[]", field)[0] for field in fields]
    else:
        wanted = [column or _guessed(rows[0], source)]
    for name in wanted:
        if name not in columns:
            raise PlopError(f"{source} has no column {name!r}; there are {', '.join(columns)}")
    return (lambda row: row[wanted[0]]) if template is None else (lambda row: template.format(**row))


def _guessed(row: Row, source: str) -> str:
    strings = [name for name, value in row.items() if isinstance(value, str)]
    for name in ("text", "messages", *(strings if len(strings) == 1 else [])):
        if name in row:
            return name
    raise PlopError(f"which column of {source} is the text? give --column; there are {', '.join(row)}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
