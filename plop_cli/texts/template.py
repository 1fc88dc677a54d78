"""Texts of rows by a template: "{question}\\n{answer}".

A field is a column, or what lies inside one: `{user.name}` and `{user[name]}` look `name` up in an object, `{turns[0]}`
an entry of a list. Nothing else can be reached, attributes neither. A column that a row lacks is empty there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from string import Formatter
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.texts.text import role_and_content

WIDEST = 1000
"""Characters that a field may be filled up to."""

_FIELD = re.compile(r"(?P<column>[^.\[\]]+)(?P<inside>(\.[^.\[\]]+|\[[^\[\]]+\])*)")
_CONVERSIONS: dict[str | None, Callable[[str], str]] = {None: str, "s": str, "r": repr, "a": ascii}


class Template:
    """A template, checked. Raises PlopError where it is malformed."""

    def __init__(self, template: str) -> None:
        self._source = template
        try:
            self._parts = list(Formatter().parse(template))
        except ValueError as error:
            raise self._wrong(f"is malformed ({error}); write {{column}}") from error
        self._paths = {field: self._path(field) for _, field, _, _ in self._parts if field is not None}
        for _, _, spec, conversion in self._parts:
            if "{" in (spec or "") or conversion not in _CONVERSIONS:
                raise self._wrong(f"is malformed ({spec or conversion!r} is no format); write {{column}}")
            if any(len(digits) > 4 or int(digits) > WIDEST for digits in re.findall(r"\d+", spec or "")):
                raise self._wrong(f"fills a field to more than {WIDEST} characters; give a smaller width")
        if not self._paths:
            raise self._wrong("names no column; write {column}")

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Each field as it is written, and the column that it begins with."""
        return [(field, path[0]) for field, path in self._paths.items()]

    def text(self, row: Any) -> str:
        """The text of a row; "" where all its fields are empty. Raises PlopError where a value has no such format."""
        written, filled = [], False
        for literal, field, spec, conversion in self._parts:
            written.append(literal)
            if field is not None:
                value = _inside(row, [field]) if field in row else _inside(row, self._paths[field])
                filled = filled or bool(plain(value).strip())
                written.append(self._formatted(value, field, spec or "", conversion))
        return "".join(written) if filled else ""

    def _formatted(self, value: Any, field: str, spec: str, conversion: str | None) -> str:
        if conversion is not None or not spec:
            return format(_CONVERSIONS[conversion](plain(value)), spec)
        for kind in (lambda value: value, int, float, plain):  # a CSV file's numbers are strings
            try:
                return format(kind(value), spec)
            except (TypeError, ValueError, OverflowError):
                continue
        raise self._wrong(f"has the format {spec!r} for {field!r}, which its value does not take; leave it out")

    def _path(self, field: str) -> list[str]:
        match = _FIELD.fullmatch(field)
        if match is None:
            raise self._wrong(f"is malformed (no column in {{{field}}}); write {{column}}")
        return [match["column"], *re.findall(r"[^.\[\]]+", match["inside"])]

    def _wrong(self, what: str) -> PlopError:
        shown = self._source if len(self._source) <= 80 else self._source[:79] + "…"
        return PlopError(f"the template {shown!r} {what}")


def plain(value: Any) -> str:
    """A value as text: conversations turn by turn, other objects and lists as JSON, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(map(role_and_content, value)):
        return "\n".join("{}: {}".format(*map(plain, role_and_content(turn) or ())) for turn in value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _inside(value: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(value, list):
            value = value[int(step)] if step.isdecimal() and len(step) < 10 and int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value
