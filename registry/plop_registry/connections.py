"""How a place becomes connections: an SQLite file that is opened as it may be, or a PostgreSQL server."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from sqlalchemy import Engine, QueuePool, create_engine

from plop_registry.damage import code
from plop_registry.errors import RegistryError
from plop_registry.location import Location

PATIENCE = 30.0
"""Seconds to wait for another writer."""

_SERVER = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 30,  # a server that vanishes without a word is noticed
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
    "client_encoding": "utf8",
}
"""What a connection to PostgreSQL has unless the URL says otherwise."""


class File(sqlite3.Connection):
    """A connection that knows which file it opened."""

    identity: tuple[int, int] | None = None


class Held:
    """Which file a path is now. While this lives no other file can have the same number, not even once it is deleted.

    `O_PATH`, where there is such a thing, opens no file: closing that would drop SQLite's locks.
    """

    def __init__(self, path: Path) -> None:
        self.identity = identity(path)
        self._descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC) if hasattr(os, "O_PATH") else None

    def __del__(self) -> None:
        if (descriptor := self.__dict__.get("_descriptor")) is not None:
            os.close(descriptor)


def engine_of(location: Location) -> Engine:
    """Connections to a location, of which none is open yet."""
    path = location.path
    if path:
        return create_engine("sqlite://", creator=lambda: _connect(path), poolclass=QueuePool)
    assert location.url is not None
    try:
        from psycopg import pq
    except ImportError as error:
        raise RegistryError("a PostgreSQL registry needs psycopg; pip install 'plop-cli[postgres]'") from error
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    if not known.issuperset(location.url.query):
        raise RegistryError(
            f"registry {location.shown}: PostgreSQL does not know a parameter of the URL; after the ? come such as "
            "sslmode=require, connect_timeout=10 or options=…"
        )
    own = {name: value for name, value in _SERVER.items() if name not in location.url.query}
    return create_engine(location.url, pool_pre_ping=True, connect_args=own)


def make_file(path: Path) -> None:
    """Make an empty file, and the folders it is in, where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise RegistryError(
            f"cannot write the registry {path} ({error.strerror}); give a writable path (--registry, $PLOP_REGISTRY)"
        ) from error


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that takes its path; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> File:
    """Open an existing file; where neither it nor its folder can be written, as it lies there."""
    _check_kind(path)
    try:
        return _opened(path, "mode=rw")
    except sqlite3.OperationalError as error:
        if code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        log = path.with_name(path.name + "-wal")
        if os.path.exists(log) and os.path.getsize(log):
            raise RegistryError(
                f"the registry {path} was not closed and cannot be written; copy it and {log.name} to a writable folder"
            ) from error
        return _opened(path, "mode=ro&immutable=1")


def read_only(path: Path) -> File:
    """Open an existing file so that SQLite itself refuses to write to it."""
    _check_kind(path)
    try:
        return _opened(path, "mode=ro")
    except sqlite3.OperationalError:  # no write-ahead log can be made beside it
        return _connect(path)


def _check_kind(path: Path) -> None:
    """Raise RegistryError for what is no file: opening a FIFO would wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # SQLite says why
    if stat.S_ISDIR(mode):
        raise RegistryError(f"the registry {path} is a folder; give the path of a file in it")
    if not stat.S_ISREG(mode):
        raise RegistryError(f"the registry {path} is no regular file; give the path of one")


def _opened(path: Path, query: str) -> File:
    before = identity(path)
    connection = sqlite3.connect(
        f"{path.as_uri()}?{query}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        factory=File,
    )
    try:
        connection.execute("SELECT 1 FROM sqlite_master")  # opens the file, which connecting does not
        connection.execute("PRAGMA synchronous = FULL")  # what is reported as stored survives a power cut
    except sqlite3.Error:
        connection.close()
        raise
    connection.identity = before
    return connection
