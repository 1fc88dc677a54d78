"""How damage shows: what a file with flipped bits makes SQLite and Python say."""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy.exc import DBAPIError

UNREADABLE = (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError, DBAPIError)
"""What reading a damaged row can raise; a DBAPIError only where `is_damage` says so."""

_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)
_SAYINGS = r"Could not decode|no such (table|column|index)|duplicate column|already exists"


def is_damage(error: DBAPIError) -> bool:
    """Whether an error of SQLite tells of a damaged file, and not of a mistake in what was asked.

    SQLite has no code of its own for a schema that is not the one it was: queries that are tested then name what is
    not there.
    """
    cause = error.orig
    return isinstance(cause, sqlite3.Error) and (code(cause) in _CODES or bool(re.match(_SAYINGS, str(cause))))


def code(error: BaseException | None) -> int:
    """SQLite's primary result code; 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
