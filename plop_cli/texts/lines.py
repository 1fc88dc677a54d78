"""Rows of text formats: lines, JSON and CSV. A file is known by where its rows begin, 8 bytes a row.

rows = json_rows(Content.of_file(Path("texts.jsonl")))
"""

from __future__ import annotations

import csv
import io
import json
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plop_cli.errors import PlopError
from plop_cli.texts.content import Content
from plop_cli.texts.rows import InMemory, Row, Rows

_NEWLINE = ord("\n")
_LONGEST_FIRST = 1 << 20
"""Bytes of the first line that are looked at."""


class Spans(Rows):
    """Rows of a text: row i lies between `bounds[i]` and `bounds[i + 1]`, and `parse` makes it of these bytes."""

    def __init__(
        self, content: Content, bounds: NDArray[np.int64], parse: Callable[[str], Any], *, typed: bool = True
    ) -> None:
        self._content, self._bounds, self._parse, self.typed = content, bounds, parse, typed

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        order = sorted(set(indices))
        places = [(int(self._bounds[index]), int(self._bounds[index + 1])) for index in order]
        rows = dict(zip(order, map(self._row, places, self._content.spans(places)), strict=True))
        return [rows[index] for index in indices]

    def _row(self, place: tuple[int, int], data: bytes) -> Row | PlopError:
        try:
            row = self._parse(data.decode())
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else error
            return self._bad(place, f"malformed JSON ({reason})")
        return row if isinstance(row, dict) else self._bad(place, "not a JSON object")

    def _bad(self, place: tuple[int, int], reason: str) -> PlopError:
        line = self._content.line_at(place[0])
        return PlopError(f"{self._content.name}, line {line}: {reason}; mend or remove the line")


def text_rows(content: Content) -> Rows:
    """Each line is a text; lines end at \\n or \\r\\n, nowhere else."""
    return Spans(content, _lines(content), lambda line: {"text": line.removesuffix("\n").removesuffix("\r")})


def json_rows(content: Content) -> Rows:
    """Of JSON lines, of a list of objects, or of one object that holds such a list or a list for each column."""
    first = _first_line(content)
    if first.startswith("["):
        return _list_rows(content)
    bounds = _lines(content)
    filled = np.flatnonzero(np.diff(bounds) > len("\r\n"))  # a line of two bytes holds no object with a text
    if content.kind == ".json" and (len(filled) == 1 or not _is_json(first)):
        return _document_rows(content)
    return Spans(content, np.append(bounds[filled], bounds[-1]), json.loads)


def csv_rows(content: Content) -> Rows:
    """Of a header and rows that fit it, parted by commas, else by semicolons or tabs. All values are strings."""
    header, starts = _first_line(content), _lines(content)
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    csv.field_size_limit(sys.maxsize)
    with content.open() as stream:
        stream.read(content.start)
        lines = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
        try:
            names, ends = _fitting_rows(csv.reader(lines, delimiter=delimiter, strict=True), content.name)
        finally:
            lines.detach()

    def parse(text: str) -> Row:
        return dict(zip(names, next(csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter)), strict=True))

    return Spans(content, starts[ends], parse, typed=False)


def _fitting_rows(reader: Any, source: str) -> tuple[list[str], array[int]]:
    """The columns of a CSV reader's header, and how many lines were read after it and after each row."""
    ends = array("q")
    try:
        names = _names(next((row for row in reader if row), []), source)
        columns = len(names)
        ends.append(reader.line_num)
        for row in reader:
            if len(row) == columns and (columns > 1 or not row[0].isspace()):
                ends.append(reader.line_num)
            elif len(row) > 1 or "".join(row).strip():
                raise PlopError(
                    f"{source}, line {reader.line_num}: {len(row)} values, and the header has {columns} columns; "
                    "mend the row, and quote texts that hold commas"
                )
            else:
                ends[-1] = reader.line_num  # a blank line
    except csv.Error as error:
        raise PlopError(f"{source}, line {reader.line_num}: malformed CSV ({error}); mend the line") from error
    return names, ends


def _names(header: list[str], source: str) -> list[str]:
    """The columns; those without a name by their number."""
    names = [name.strip() or f"Unnamed: {index}" for index, name in enumerate(header)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlopError(f"{source} has two columns {twice[0]!r}; rename one of them")
    return names


def _first_line(content: Content) -> str:
    """The first line that is not blank; raises PlopError where there is none."""
    rest = b""
    for block in content.blocks():
        rest = (rest + block).lstrip()
        if b"\n" in rest or len(rest) > _LONGEST_FIRST:
            break
    if not rest:
        raise PlopError(f"{content.name} is empty; give at least one text")
    return rest.partition(b"\n")[0].decode(errors="replace")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(content: Content) -> NDArray[np.int64]:
    """Where each line begins, and the end."""
    found, position, last = [np.array([content.start])], content.start, b""
    for block in content.blocks():
        found.append(np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + (position + 1))
        position += len(block)
        last = block[-1:]
    if last != b"\n":
        found.append(np.array([position]))
    return np.concatenate(found)


_SPECIAL = np.zeros(256, bool)
_SPECIAL[list(b'"{}[],')] = True
_STEP = np.zeros(256, np.int8)
_STEP[list(b"{[")], _STEP[list(b"}]")] = 1, -1


def _list_rows(content: Content) -> Rows:
    """Of a list of objects, whose beginnings are found by counting brackets outside of strings."""
    starts, commas, depth, inside, held = [], 0, 0, 0, b""
    position, values = content.start, 0
    for block in content.blocks():
        block, held = held + block, b""
        if cut := len(block) - len(block.rstrip(b"\\")):
            block, held = block[:-cut], block[-cut:]
        plain = block.replace(b"\\\\", b"__").replace(b'\\"', b"__")  # what is escaped neither opens nor closes
        codes = np.frombuffer(plain, np.uint8)
        places = np.flatnonzero(_SPECIAL[codes])
        codes = codes[places]
        quotes = np.cumsum(codes == ord('"')) + inside
        outside = (quotes % 2 == 0) & (codes != ord('"'))
        steps = np.where(outside, _STEP[codes], 0)
        depths = np.cumsum(steps, dtype=np.int64) + depth
        starts.append(places[(steps == 1) & (depths == 2)] + position)
        commas += int(np.count_nonzero(outside & (codes == ord(",")) & (depths == 1)))
        values += int(np.count_nonzero((steps == -1) & (depths == 0)))
        if len(codes):
            inside, depth = int(quotes[-1]) % 2, int(depths[-1])
        position += len(block)
    if depth or inside or values > 1:
        raise PlopError(f"{content.name} cannot be read as JSON (its list is not closed, or not all); mend it")
    bounds = np.concatenate([*starts, [position]])
    if len(bounds) - 1 != commas + 1:
        return _document_rows(content)
    decoder = json.JSONDecoder()
    return Spans(content, bounds, lambda text: decoder.raw_decode(text)[0])


def _document_rows(content: Content) -> Rows:
    """Of one JSON value: a list, a list under one name, or a list for each column."""
    try:
        value = json.loads(content.read())
    except (ValueError, RecursionError) as error:
        raise PlopError(f"{content.name} cannot be read as JSON ({error}); mend it") from error
    if isinstance(value, dict):
        lists = {name: column for name, column in value.items() if isinstance(column, list)}
        objects = [column for column in lists.values() if column and isinstance(column[0], dict)]
        if len(objects) == 1:
            (value,) = objects
        elif lists and len(lists) == len(value) and len(set(map(len, lists.values()))) == 1:
            value = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        else:
            value = [value]
    if isinstance(value, list) and all(isinstance(row, str) for row in value):
        value = [{"text": row} for row in value]
    if not all(isinstance(row, dict) for row in value):
        raise PlopError(f"{content.name} is no list of JSON objects; write one object per line, as JSON lines")
    return InMemory(value)
