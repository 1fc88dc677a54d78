"""A user's own SELECT, over the views: the database itself refuses to write, and is told when to stop.

Nothing here reads the query. SQLite opens the file read-only and asks an authorizer about each thing that a statement
would do; PostgreSQL declares a cursor, which takes one query, in a transaction that is read only.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plop_registry.connections import read_only
from plop_registry.errors import RegistryError
from plop_registry.location import Location
from plop_registry.views import VIEWS, statements

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AT_ONCE = 1_000
"""Rows that are held in memory."""
_LARGEST = 64 * 2**20
"""Bytes of one value."""
_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_REMEDY = f"give one SELECT over {', '.join(VIEWS)}; docs/registry.md tells their columns"


@dataclass(frozen=True)
class Answer:
    """What came of a query: names of columns, no two the same, and rows, which are read as they are asked for."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


class _Clock:
    """How long the database may work; what its reader takes for each row does not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._until = float("inf")

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.monotonic()
        self._until = start + self._left
        try:
            yield
        finally:
            self._left -= time.monotonic() - start
        if self._left <= 0:
            raise self.error()

    def over(self) -> bool:
        return time.monotonic() > self._until

    @property
    def milliseconds(self) -> int:
        """What is left, at least 1: to PostgreSQL, 0 is for ever."""
        return max(1, round(self._left * 1000))

    def error(self) -> RegistryError:
        return RegistryError(
            f"the query ran for more than {self._seconds:g} s and was stopped; narrow it, or give more (--timeout)"
        )


@contextmanager
def ask_file(location: Location, query: str, seconds: float) -> Iterator[Answer]:
    """The answer of an SQLite registry. RegistryError for a query that is none, writes, or takes longer."""
    assert location.path is not None
    clock = _Clock(seconds)
    with closing(read_only(location.path)) as connection:
        for statement in statements("main"):
            connection.execute(statement)
        connection.execute("PRAGMA query_only = ON")
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
        connection.set_progress_handler(clock.over, 1_000)
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)

        @contextmanager
        def said() -> Iterator[None]:
            try:
                with clock.running():
                    yield
            except sqlite3.Error as error:
                if clock.over():
                    raise clock.error() from error
                raise RegistryError(f"the registry refuses the query ({error}); {_REMEDY}") from error

        def rows() -> Iterator[Sequence[Any]]:
            while True:
                with said():
                    some = cursor.fetchmany(_AT_ONCE)
                yield from some
                if not some:
                    return

        with said():
            cursor = connection.execute(query)
        yield Answer(_columns([column[0] for column in cursor.description or ()]), rows())


@contextmanager
def ask_server(connection: Connection, query: str, seconds: float) -> Iterator[Answer]:
    """The answer of a PostgreSQL registry, likewise. The connection is used up: its views would be in others' way."""
    from psycopg import Error
    from psycopg.errors import QueryCanceled

    clock = _Clock(seconds)
    schema = str(connection.exec_driver_sql("SELECT current_schema()").scalar())
    at = connection.dialect.identifier_preparer.quote(schema)
    server: Any = connection.connection.driver_connection
    connection.detach()

    @contextmanager
    def said() -> Iterator[None]:
        try:
            with clock.running():
                yield
        except QueryCanceled as error:
            raise clock.error() from error
        except Error as error:
            fact = str(error).strip().partition("\n")[0]
            raise RegistryError(f"the registry refuses the query ({fact}); {_REMEDY}") from error

    def fetch(count: int) -> Any:
        server.execute(f"SET LOCAL statement_timeout = {clock.milliseconds}")  # the query could have set another
        return server.execute(f"FETCH {count} FROM answer")

    def rows(some: list[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        while some:
            yield from some
            with said():
                some = fetch(_AT_ONCE).fetchall()

    with said():
        for statement in statements(at):
            server.execute(statement)
        server.commit()
        server.read_only = True
        server.execute(f"SET LOCAL statement_timeout = {clock.milliseconds}")
        # What is prepared is one statement alone, so nothing can follow.
        server.execute(f"DECLARE answer NO SCROLL CURSOR FOR {query}", prepare=True)
        first = fetch(_AT_ONCE)
    yield Answer(_columns([column.name for column in first.description or ()]), rows(first.fetchall()))


def _columns(names: list[str]) -> tuple[str, ...]:
    if not names:
        raise RegistryError(f"the query asks for nothing; {_REMEDY}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RegistryError(f"two columns of the query are called {twice}; name them apart (AS)")
    return tuple(names)
