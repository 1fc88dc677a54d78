"""One registry's connections: opened late, brought to the newest schema, told apart by what they are for.

Writers take turns: SQLite's BEGIN IMMEDIATE and PostgreSQL's advisory lock make every write transaction the only one,
so nothing that is written can race. Readers see one snapshot and wait for nobody.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Engine, QueuePool, create_engine, delete, insert, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

from plop_registry.errors import RegistryError
from plop_registry.location import Location
from plop_registry.migrations import HEAD, SCHEMAS, VERSION_TABLE
from plop_registry.queries import Reader, Writer
from plop_registry.schema import META

_PATIENCE = 30.0  # seconds to wait for another writer
_LOCK = 0x706C6F70  # "plop", the advisory lock that PostgreSQL's writers take
_REFUSALS = ("42501", "25006")  # PostgreSQL: no such privilege, a read-only server

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process has been writing for too long; try again",
    sqlite3.SQLITE_READONLY: "it can be read only; make the file and its folder writable, or give another registry",
    sqlite3.SQLITE_IOERR: "the disk is full or failing; free space and try again",
    sqlite3.SQLITE_FULL: "the disk is full; free space and try again",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder readable, or give another registry",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite file; give another path",
    sqlite3.SQLITE_PERM: "make the file and its folder accessible, or give another registry",
    sqlite3.SQLITE_PROTOCOL: "the file system cannot share a database; use a local disk or PostgreSQL",
}


class Database:
    """The database at a location. Nothing is opened before `reading` or `writing`, nothing created before `writing`."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._engine = _engine(location)
        self._current = False
        self._writable = False

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Reader | None]:
        """A snapshot to read from; None where there is no registry yet."""
        with self._errors():
            if self._exists():
                with self._transaction("read") as connection:
                    yield Reader(connection)
            else:
                yield None

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The only writer, for as long as it lasts; the registry is made where there is none yet."""
        with self._errors():
            path = self.location.path
            if path and not self._writable:
                _make_file(path)
            exists = self._exists()
            if path and not self._writable:
                self._write_ahead(path)
            self._writable = True
            if not exists:
                self._upgrade()
            with self._transaction("write") as connection:
                yield Writer(connection)

    def backup(self, path: Path) -> None:
        """Copy an SQLite registry as it is now, while others go on writing."""
        with self._errors(), self._engine.connect() as connection:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            try:
                with closing(sqlite3.connect(path)) as copy:
                    source.backup(copy)
            except sqlite3.Error as error:
                path.unlink(missing_ok=True)
                raise RegistryError(f"cannot write the backup {path} ({error}); give another path") from error

    def _exists(self) -> bool:
        """Whether there is a registry. An older schema is brought to HEAD; Alembic is imported for that alone."""
        if self._current:
            return True
        with self._transaction("read") as connection:
            revision = _revision(connection, self.location)
        if revision is None:
            return False
        if revision != HEAD:
            self._upgrade()
        self._current = True
        return True

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config

        with self._transaction("upgrade") as connection:
            config = Config()
            # A folder: for a package's name, Alembic leaves a function to be run at exit, each time.
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
            connection.execute(delete(META))
            connection.execute(insert(META).values(name="plop_version", value=SCHEMAS[HEAD]))
        self._current = True

    @contextmanager
    def _transaction(self, purpose: Literal["read", "write", "upgrade"]) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            if self.location.path:
                # Rebuilding a table, as migrations do on SQLite, would delete what refers to it.
                keys = "OFF" if purpose == "upgrade" else "ON"
                connection.exec_driver_sql(f"PRAGMA foreign_keys = {keys}")
                connection.exec_driver_sql("BEGIN" if purpose == "read" else "BEGIN IMMEDIATE")
            elif purpose == "read":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield connection
            connection.commit()

    def _write_ahead(self, path: Path) -> None:
        """Put SQLite into write-ahead mode, which stays with the file. SQLite itself does not wait for others here."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with self._engine.connect() as connection:
                    mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar()
            except OperationalError as error:
                if _code(error.orig) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                break
        if mode != "wal":
            raise RegistryError(
                f"the file system of {path} cannot share a database between processes (no write-ahead log); put the "
                "registry on a local disk or into PostgreSQL"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what a user can mend into RegistryError; SQL that is wrong stays a bug."""
        try:
            yield
        except DBAPIError as error:
            cause = error.orig
            if isinstance(cause, sqlite3.Error):
                remedy = _REMEDIES.get(_code(cause))
            elif isinstance(error, OperationalError) or getattr(cause, "sqlstate", None) in _REFUSALS:
                remedy = "check the URL, that the server runs and that you may use the database"
            else:
                remedy = None
            if remedy is None:
                raise
            fact = str(cause).strip().partition("\n")[0]
            raise RegistryError(f"registry {self.location.shown}: {fact}; {remedy}") from error


def _engine(location: Location) -> Engine:
    path = location.path
    if path:
        return create_engine("sqlite://", creator=lambda: _connect(path), poolclass=QueuePool)
    assert location.url is not None
    try:
        return create_engine(location.url, pool_pre_ping=True)
    except ImportError as error:
        raise RegistryError("a PostgreSQL registry needs psycopg; pip install 'plop-cli[postgres]'") from error


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise RegistryError(
            f"cannot write the registry {path} ({error.strerror}); give a writable path (--registry, $PLOP_REGISTRY)"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    """Open an existing file; where neither it nor its folder can be written, as it lies there."""
    if os.path.isdir(path):
        raise RegistryError(f"the registry {path} is a folder; give the path of a file in it")
    try:
        return _opened(path, "mode=rw")
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        log = path.with_name(path.name + "-wal")
        if os.path.exists(log) and os.path.getsize(log):
            raise RegistryError(
                f"the registry {path} was not closed and cannot be written; copy it and {log.name} to a writable folder"
            ) from error
        return _opened(path, "mode=ro&immutable=1")


def _opened(path: Path, query: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?{query}", uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("SELECT 1 FROM sqlite_master")  # opens the file, which connecting does not
        connection.execute("PRAGMA synchronous = FULL")  # what is reported as stored survives a power cut
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _revision(connection: Connection, location: Location) -> str | None:
    """The schema revision; None in an empty database; RegistryError where something else or a newer plop filled it."""
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        if tables:
            raise RegistryError(f"{location.shown} holds something else; give plop a database of its own")
        return None
    revision = str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar())
    if revision not in SCHEMAS:
        version = connection.execute(text("SELECT value FROM meta WHERE name = 'plop_version'")).scalar()
        raise RegistryError(
            f"the registry {location.shown} was made by a newer plop; pip install --upgrade 'plop-cli>={version}'"
        )
    return revision


def _code(error: BaseException | None) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
