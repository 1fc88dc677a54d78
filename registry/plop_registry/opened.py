"""A registry as a database: where it is, how it is opened, read and closed, and how it is kept up."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from plop_registry.errors import RegistryError
from plop_registry.location import locate
from plop_registry.migrations import HEAD
from plop_registry.references import damaged

if TYPE_CHECKING:
    from plop_registry.database import Database
    from plop_registry.queries import Reader

_log = logging.getLogger("plop_registry")


class Opened:
    """What `Registry` is, whatever it holds. Nothing is opened until the first call."""

    def __init__(self, url: str | Path | None = None) -> None:
        self._location = locate(url)
        self._named: set[str] = set()

    def __repr__(self) -> str:
        return f"Registry({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        if "_database" in self.__dict__:
            self._database.close()

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for PostgreSQL."""
        return self._location.path

    @property
    def url(self) -> str:
        """The path or URL, without its password."""
        return self._location.shown

    def backup(self, path: str | Path) -> None:
        """Copy an SQLite registry into a new file, at one moment in time, while others go on writing."""
        try:
            target = Path(path).expanduser()
        except RuntimeError as error:
            raise RegistryError(f"{path} begins with a home folder that does not exist; give the whole path") from error
        if self._location.url is not None:
            raise RegistryError("a PostgreSQL registry is backed up by PostgreSQL's own pg_dump")
        if self._location.missing:
            raise RegistryError(f"there is no registry at {self.url} yet")
        if os.path.lexists(target):
            raise RegistryError(f"{target} exists; give the backup another name")
        self._database.backup(target)

    def status(self) -> dict[str, Any]:
        """url (no password), schema (None where there is no registry yet), head, runs, models, tasks and bytes."""
        with self._reading() as reader:
            found = reader.counts() if reader else {"runs": 0, "models": 0, "tasks": 0, "bytes": 0}
            return {"url": self.url, "schema": HEAD if reader else None, "head": HEAD, **found}

    def upgrade(self) -> str:
        """Make the registry, or bring it to the newest schema, as every other method does by itself; the schema.

        Nothing stays open: a write-ahead log that lies about would be taken for that of a file put in its place.
        """
        with self._database.writing():
            pass
        self.close()
        return HEAD

    def check_writable(self) -> None:
        """Raise RegistryError where nothing can be stored in a registry that there is. Nothing is changed."""
        from sqlalchemy import text

        with self._database.writing() as writer:
            writer.connection.execute(text("INSERT INTO runs SELECT * FROM runs WHERE 1 = 0"))  # asks for the right

    @cached_property
    def _database(self) -> Database:
        from plop_registry.database import Database

        return Database(self._location)

    @contextmanager
    def _reading(self) -> Iterator[Reader | None]:
        if self._location.missing:
            yield None
        else:
            with self._database.reading() as reader:
                yield reader
            found = [each for each in (reader.damaged if reader else ()) if each not in self._named]
            if found:
                self._named.update(found)
                _log.warning(damaged(found))
