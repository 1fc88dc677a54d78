"""Shell globs in SQL, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, or_

from plop_registry.errors import RegistryError

_SET = r"\[!?+(?:\][^]]*|[^]]+)\]"  # [abc], [!abc], []abc]; a bracket that nothing closes is itself


def fits(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """`column` is `pattern`, or fits it as a glob (*, ?, [a-z], [!a-z]), upper and lower case told apart."""
    return or_(column == pattern, column.regexp_match(to_regex(pattern)))


def ends_in(column: ColumnElement[str], pattern: str, *, but_for: str = "") -> ColumnElement[bool]:
    """The path in `column` ends in `pattern`, whose * stays within a part, and in what fits `but_for`, a regex."""
    body = to_regex(pattern)[1 : -len(r"\Z")].replace(".*", "[^/]*")
    return column.regexp_match(f"^(.*/)?{body}{but_for}\\Z")


def to_regex(pattern: str) -> str:
    """A regular expression that Python, which SQLite calls, and PostgreSQL read alike."""
    regex = "^" + re.sub(f"{_SET}|.", _part, pattern, flags=re.DOTALL) + r"\Z"
    try:
        re.compile(regex)
    except re.error as error:
        raise RegistryError(f"{pattern!r} is no pattern ({error.msg}); write ranges as [a-z]") from error
    return regex


def _part(found: re.Match[str]) -> str:
    part = found.group()
    if len(part) == 1:
        return {"*": ".*", "?": "."}.get(part, re.escape(part))
    negated = part[1] == "!"
    characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[2 if negated else 1 : -1])
    return f"[{'^' if negated else ''}{characters}]"
