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
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import resources
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.progress import says
from plop_cli.texts.folders import find
from plop_cli.texts.formats import FORMATS
from plop_cli.texts.presets import PRESETS, SAMPLES
from plop_cli.texts.readers import rows_of_found, rows_of_hub, rows_of_stream, unchanged
from plop_cli.texts.rows import InMemory, Rows
from plop_cli.texts.shapes import Shape, by_column, by_template, columns_of, recognised
from plop_cli.texts.text import Text, text_hash
from plop_cli.words import counted


@dataclass(frozen=True)
class Task:
    """Texts drawn from a source. `notes` says what a user would not guess, such as that the source ran short."""

    id: str
    revision: str
    texts: tuple[Text, ...]
    notes: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    """The number of each text's row in the source, from 1; none where texts were not drawn."""

    @property
    def texts_hash(self) -> str:
        """sha256 over the texts, in order."""
        return hashlib.sha256(b"".join(map(text_hash, self.texts))).hexdigest()

    def place(self, index: int) -> str:
        """Where the text at `index` comes from, for people."""
        return f"{self.id}, row {self.rows[index]}" if index < len(self.rows) else f"{self.id}, text {index + 1}"


@dataclass(frozen=True)
class _Source:
    """Rows, what pins them, and how they become texts."""

    task: str
    revision: str
    rows: Rows
    shape: Shape
    notes: tuple[str, ...] = ()


def load_task(
    task: str,
    *,
    samples: int = 100,
    seed: int = 0,
    column: str | None = None,
    template: str | None = None,
    skip_bad: bool = False,
) -> Task:
    """Draw `samples` texts of TASK, seeded and without replacement; a larger draw begins with the smaller one.

    Args:
        task: a preset (`math`), `sample/math`, a file, a folder or glob of files (`folder@split`),
            `org/name[:config][@split]` on the hub, or `-` (stdin).
        column: which column holds the text or the conversation (default: as `shapes.recognised` finds).
        template: makes a text of a row instead, such as "{question}\\n{answer}".
        skip_bad: pass over rows that cannot be a text, and count them, instead of raising.

    Raises PlopError for what does not exist, cannot be read or holds no text.
    """
    if samples < 1:
        raise PlopError(f"--samples is {samples}; give at least 1")
    if seed < 0:
        raise PlopError(f"--seed is {seed}; give 0 or more")
    if column is not None and template is not None:
        raise PlopError("--column and --template both say what the text is; give one of them")
    says("" if task == "-" else f"reading {task[:200]}")  # whoever types texts sees them
    found = None if task in SAMPLES or task in PRESETS or task == "-" else find(task)
    with unchanged(found) if found else nullcontext():
        if found:
            rows, revision = rows_of_found(found)
            notes = (found.note,) if found.note else ()
            source = _chosen(found.name, task, revision, rows, column, template, notes)
        else:
            source = _elsewhere(task, column, template)
        return _draw(source, samples, seed, skip_bad=skip_bad)


def _elsewhere(task: str, column: str | None, template: str | None) -> _Source:
    """A task that is no file here: built in, on the hub, or piped in."""
    if task in SAMPLES:
        content = (
            resources.files("plop_cli.texts").joinpath("samples", f"{task.removeprefix('sample/')}.jsonl").read_bytes()
        )
        lines = InMemory([json.loads(line) for line in content.splitlines()])
        return _Source(task, hashlib.sha256(content).hexdigest(), lines, Shape(("text",), lambda row: str(row["text"])))
    if task in PRESETS:
        preset = PRESETS[task]
        rows, revision = rows_of_hub(preset.dataset, preset.config, preset.split)
        return _Source(task, revision, rows, Shape((), preset.text))
    if task == "-":
        rows, revision = rows_of_stream(sys.stdin.buffer if sys.stdin else None)
        return _chosen("-", "standard input", revision, rows, column, template)
    match = re.fullmatch(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[^@]+))?(@(?P<split>.+))?", task)
    if match is None or task.endswith(FORMATS) or task.startswith((".", "~", "sample/")):
        near = difflib.get_close_matches(task[:100], [*PRESETS, *SAMPLES], 1, 0.5)
        meant = f"did you mean {near[0]!r}?" if near else "give a preset, a file or folder, org/name on the hub, or -"
        raise PlopError(f"no task {task[:200]!r}; {meant} (plop tasks lists them)")
    rows, revision = rows_of_hub(match["name"], match["config"], match["split"])
    return _chosen(task, task, revision, rows, column, template)


def _chosen(
    name: str,
    source: str,
    revision: str,
    rows: Rows,
    column: str | None,
    template: str | None,
    notes: tuple[str, ...] = (),
) -> _Source:
    """What makes texts of rows is part of what the task is; a built-in task has its own way."""
    for given in (column, template):
        _check_words(given or "", f"the option {given!a}")
    if not (head := rows.head()):
        raise PlopError(f"{source} is empty; give at least one text")
    if template is not None:
        shape = by_template(template, columns_of(head), source)
    elif column is not None:
        shape = by_column(column, columns_of(head), source)
    else:
        shape = recognised(head, source, typed=rows.typed)
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # file names are bytes
    suffix = (f":{column}" if column else "") + (f":{template}" if template else "")
    said = (shape.said,) if shape.said and columns_of(head) != ["text"] else ()
    return _Source(name + suffix, revision, rows, shape, tuple(f"texts: {note}" for note in (*notes, *said)))


def _draw(source: _Source, samples: int, seed: int, *, skip_bad: bool) -> Task:
    texts: list[Text] = []
    places: list[int] = []
    bad: list[str] = []
    empty = 0
    for index, row in source.rows.drawn(seed=seed, wanted=samples, columns=source.shape.columns or None):
        if len(texts) == samples:
            break
        try:
            text = _text(source, index, row)
        except PlopError as error:
            if not skip_bad:
                raise PlopError(f"{error} (--skip-bad passes over such rows)") from error
            bad.append(str(error))
            continue
        if not text or (isinstance(text, str) and not text.strip()):
            empty += 1
        else:
            texts.append(text)
            places.append(index + 1)
    task = source.task
    if not texts:
        why = f"every row is bad: {bad[0]}" if bad else "every row is empty" if empty else "it has no rows"
        raise PlopError(f"{task} holds no text; {why}")
    notes = [*source.notes]
    if empty:
        notes.append(f"{task}: {empty} empty texts were passed over")
    if bad:
        notes.append(f"{task}: {len(bad)} rows were passed over (--skip-bad); the first: {bad[0]}")
    if len(texts) < samples:
        notes.append(f"{task} has {counted(len(texts), 'text')}, fewer than --samples {samples}")
    return Task(task, source.revision, tuple(texts), tuple(notes), tuple(places))


def _text(source: _Source, index: int, row: Any) -> Text:
    """The text of one row. Raises PlopError, which names the row, where it has none that can be scored."""
    if isinstance(row, PlopError):
        raise row
    place = f"{source.task}, row {index + 1}"
    try:
        text = source.shape.text(row)
    except PlopError as error:
        raise PlopError(f"{place}: {error}") from error
    _check_words(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str), place)
    return text


def _check_words(text: str, place: str) -> None:
    """Raise PlopError for half of a pair of surrogates: no text, and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = f"U+{ord(text[error.start]):04X}"
        raise PlopError(f"{place}: half a character ({character}, a lone surrogate); mend or remove it") from error
