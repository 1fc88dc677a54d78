"""What begins so: ids, models and tasks for a shell that completes them while somebody types, without SQLAlchemy.

Of an SQLite registry alone: a shell should not wait for a server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Literal

from plop_registry.errors import RegistryError
from plop_registry.location import locate

_MOST = 100
_QUERIES = {
    "run": (
        "SELECT id FROM runs WHERE id >= :start AND id < :end",
        "SELECT DISTINCT name FROM runs WHERE name <> '' AND name >= :start AND name < :end",
        "SELECT id FROM races WHERE id >= :start AND id < :end",
    ),
    "model": ("SELECT DISTINCT source FROM models WHERE source >= :start AND source < :end",),
    "task": ("SELECT DISTINCT source FROM tasks WHERE source >= :start AND source < :end",),
}


def beginning(start: str, kind: Literal["run", "model", "task"], url: str | None = None) -> Iterator[str]:
    """What is stored under names that begin with `start`, 100 of each kind at most; nothing where it cannot be told."""
    values = {"start": start, "end": start + "\U0010ffff"}
    try:
        path = locate(url).path
        if path is None or not path.is_file():
            return
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.1)) as connection:
            for query in _QUERIES[kind]:
                yield from (row[0] for row in connection.execute(f"{query} LIMIT {_MOST}", values))
    except (OSError, RegistryError, sqlite3.Error):
        return
