"""One registry's connections: opened late, brought to the newest schema, told apart by what they are for.

Writers take turns: SQLite's BEGIN IMMEDIATE and PostgreSQL's advisory lock make every write transaction the only one,
so nothing that is written can race. Readers see one snapshot and wait for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, inspect, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from plop_registry.asking import Answer, ask_file, ask_server
from plop_registry.connections import PATIENCE, File, Held, engine_of, identity, make_file
from plop_registry.damage import code, is_damage
from plop_registry.errors import RegistryError
from plop_registry.location import Location
from plop_registry.migrations import HEAD, SCHEMAS, VERSION_TABLE
from plop_registry.queries import Reader
from plop_registry.schema import META
from plop_registry.writer import Writer

_LOCK = 0x706C6F70  # "plop", the advisory lock that PostgreSQL's writers take
_UNREACHABLE = "check the URL, that the server runs and that you may use the database"
_REFUSALS = {
    "42501": _UNREACHABLE,  # no such privilege
    "25006": _UNREACHABLE,  # a server that is read only
    "22P05": "the database cannot hold every character; make one with the encoding UTF8",
}

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process has been writing for too long; try again",
    sqlite3.SQLITE_READONLY: "it can be read only; make the file and its folder writable, or give another registry",
    sqlite3.SQLITE_IOERR: "the disk is full or failing; free space and try again",
    sqlite3.SQLITE_FULL: "the disk is full; free space and try again",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder readable, or give another registry",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite file; give another path",
    sqlite3.SQLITE_PERM: "make the file and its folder accessible, or give another registry",
    sqlite3.SQLITE_PROTOCOL: "the file system cannot share a database; use a local disk or PostgreSQL",
}


class Database:
    """The database at a location. Nothing is opened before `reading` or `writing`, nothing created before `writing`."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._engine = engine_of(location)
        self._current = False
        self._writable = False
        self._file: Held | None = None

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
            self._same_file()
            if path and not self._writable:
                make_file(path)
            exists = self._exists()
            if path and not self._writable:
                self._write_ahead(path)
            self._writable = True
            if not exists:
                self._upgrade()
            with self._transaction("write") as connection:
                yield Writer(connection)

    @contextmanager
    def asking(self, query: str, seconds: float) -> Iterator[Answer]:
        """The answer to a user's own query, on a connection of its own, which cannot write."""
        with self._errors():
            if not self._exists():
                raise RegistryError(f"there is no registry at {self.location.shown} to ask; plop score makes it")
            if self.location.path:
                with ask_file(self.location, query, seconds) as answer:
                    yield answer
            else:
                with self._engine.connect() as connection, ask_server(connection, query, seconds) as answer:
                    yield answer

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
            Writer(connection).seal()
        self._current = True

    @contextmanager
    def _transaction(self, purpose: Literal["read", "write", "upgrade"]) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            if self.location.path:
                if purpose != "read":
                    self._same_file(connection)
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
            if purpose != "read":
                self._same_file()

    def _same_file(self, connection: Connection | None = None) -> None:
        """Raise RegistryError where the registry's path is no longer the file that is written, which nobody will find.

        It is so from the first write on, though connections are closed and opened again.
        """
        if self.location.path is None:
            return
        found = identity(self.location.path)
        same = self._file is None or self._file.identity == found
        if connection is not None and found is not None:
            opened = connection.connection.driver_connection
            assert isinstance(opened, File)
            same = same and opened.identity == found
            self._file = self._file or Held(self.location.path)
        if not same:
            raise RegistryError(
                f"the registry {self.location.shown} was deleted or replaced while it was in use; run this again to "
                "use what is there now"
            )

    def _write_ahead(self, path: Path) -> None:
        """Put SQLite into write-ahead mode, which stays with the file. SQLite itself does not wait for others here."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._engine.connect() as connection:
                    mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar()
            except OperationalError as error:
                if code(error.orig) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
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
        except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its message
            raise RegistryError(f"registry {self.location.shown}: the file is damaged; restore a backup") from error
        except DBAPIError as error:
            cause = error.orig
            if isinstance(cause, sqlite3.Error):
                damaged = "the file is damaged; restore a backup" if is_damage(error) else None
                remedy = _REMEDIES.get(code(cause), damaged)
            else:
                state = getattr(cause, "sqlstate", None)
                gone = isinstance(error, OperationalError | InterfaceError) or error.statement is None
                remedy = _REFUSALS.get(state or "", _UNREACHABLE if gone else None)
            if remedy is None:
                raise
            fact = str(cause).strip().partition("\n")[0]
            raise RegistryError(f"registry {self.location.shown}: {self.location.hide(fact)}; {remedy}") from error


def _revision(connection: Connection, location: Location) -> str | None:
    """The schema revision; None in an empty database; RegistryError where something else or a newer plop filled it."""
    if connection.dialect.name == "postgresql":
        opened: Any = connection.connection.driver_connection
        if opened.info.parameter_status("server_encoding") == "SQL_ASCII":
            raise RegistryError(f"{location.shown} has no encoding (SQL_ASCII); give plop a database made with UTF8")
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
