"""The registry: every score kept, found again, compared.

    with Registry() as registry:                       # $PLOP_REGISTRY, else the user's data folder
        run = registry.find(key) or registry.add(run, matrix)
        for run in registry.runs(model="*SmolLM2*", limit=20):
            print(run.id, run.recommended)

SQLAlchemy is imported when there is a database to open, not before: a registry that does not exist reads as empty, at
once, and the first `add` makes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from plop_registry.errors import RegistryError
from plop_registry.location import locate
from plop_registry.matrix import SampleMatrix
from plop_registry.migrations import HEAD
from plop_registry.racestore import Races, add_line
from plop_registry.runs import Run, id_of
from plop_registry.transfer import to_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from plop_registry.database import Database
    from plop_registry.queries import Reader


class Registry:
    """Append-only store of runs and races in an SQLite file or a PostgreSQL database.

    Args: `url`, a path, `sqlite:///path` or `postgresql://user@host/database`; None is `default_url()`.

    Nothing is opened until the first call, which also brings an older schema up to date. Every method raises
    RegistryError for what a user can mend: a file that is no registry, a full disk, a registry of a newer plop.
    """

    def __init__(self, url: str | Path | None = None) -> None:
        self._location = locate(url)

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
    def url(self) -> str:
        """The path or URL, without its password."""
        return self._location.shown

    def find(self, key: str) -> Run | None:
        """The newest run with this key (`run_key`), with its modules."""
        with self._reading() as reader:
            found = reader.runs(*reader.where(key=key), limit=1, modules=True) if reader else []
        return found[0] if found else None

    def add(self, run: Run, matrix: SampleMatrix) -> Run:
        """Store a run and its matrix in one transaction; the stored run, with its id, as `get` would return it.

        Adding the very same run again changes nothing. ValueError where the matrix has other modules or samples.
        """
        if matrix.sums.shape != (run.samples, len(run.modules)):
            raise ValueError(f"{run.samples} samples × {len(run.modules)} modules, matrix {matrix.sums.shape}")
        content, sha256 = run.content(), matrix.sha256()
        stored = Run.from_content(content, id_of(content, sha256))
        packed = matrix.pack()
        with self._database.writing() as writer:
            writer.add(stored, sha256, packed)
        return stored

    def runs(
        self,
        *,
        model: str | None = None,
        task: str | None = None,
        revision: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        modules: bool = False,
    ) -> list[Run]:
        """Runs, newest first, with the scores of their types, and of their modules where asked.

        Args:
            model: shell glob on the model's id, or id@label or id@revision.
            task: shell glob on the task's id.
            revision: the model's label or (the start of) its revision; a shell glob too.
            type: shell glob on the name of a module type, one of which the run has.
            since, until: aware datetimes, both included.
        """
        with self._reading() as reader:
            if reader is None:
                return []
            where = reader.where(model=model, task=task, revision=revision, type=type, since=since, until=until)
            return reader.runs(*where, limit=limit, modules=modules)

    def get(self, reference: str) -> Run:
        """The one run, with its modules, that `reference` means.

        Args: `reference`, an id or its first 4 or more digits, "latest", or MODEL/TASK for the newest run of both.

        Raises RegistryError naming the nearest ids where there is none, and the candidates where there are several.
        """
        with self._reading() as reader:
            found = reader.meant_by(reference) if reader else []
            if reader and len(found) == 1:
                return reader.runs(*reader.where(id=found[0]), modules=True)[0]
            raise RegistryError(_not_one(reference, found, reader.names() if reader else {}))

    def matrix(self, run_id: str) -> SampleMatrix:
        """The sample matrix of a run, its hash verified; RegistryError where it is damaged."""
        with self._reading() as reader:
            packed = reader.packed([run_id]) if reader else {}
        if run_id not in packed:
            raise RegistryError(f"no run {run_id!r} in {self.url}; plop history lists the runs")
        sha256, blob = packed[run_id]
        matrix = SampleMatrix.unpack(blob)
        if matrix.sha256() != sha256:
            raise RegistryError(f"the sample matrix of run {run_id} is damaged; restore a backup, or remove the run")
        return matrix

    def remove(self, run_ids: Iterable[str]) -> int:
        """Delete runs by their whole ids; how many there were."""
        with self._reading() as reader:
            if reader is None:
                return 0
        with self._database.writing() as writer:
            return writer.remove(run_ids)

    def export_lines(self, *, limit: int | None = None, **filters: Any) -> Iterator[str]:
        """The runs that fit (arguments as for `runs`, without modules), oldest first, one JSON line each.

        Export, import elsewhere and export again gives the same lines. No newline at their ends.
        """
        with self._reading() as reader:
            for run, stored in reader.whole(*reader.where(**filters), limit=limit) if reader else ():
                if stored is None:
                    raise RegistryError(f"run {run.id} has lost its sample matrix; restore a backup, or remove the run")
                yield to_line(run, stored[1])

    def import_lines(self, lines: Iterable[str], name: str) -> tuple[int, int]:
        """Store exported runs and races, all of them or none; how many were added, and how many were known before.

        Args: `name`, the file's, for the RegistryError that tells which line is damaged. Empty lines do not count.
        """
        added = known = 0
        with self._database.writing() as writer:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        stored = add_line(writer, line)
                    except RegistryError as error:
                        raise RegistryError(
                            f"{name}, line {number}: {error}; nothing of this file was stored"
                        ) from error
                    added, known = added + stored, known + (not stored)
        return added, known

    def check(self) -> list[str]:
        """What is wrong with the file and with each run, a line for each problem; empty when all is well."""
        from plop_registry.verify import problems

        with self._reading() as reader:
            if reader is None:
                return []
            runs = [f"run {run.id}: {problem}" for run, stored in reader.whole() for problem in problems(run, stored)]
            return reader.damage() + runs

    def backup(self, path: str | Path) -> None:
        """Copy an SQLite registry into a new file, at one moment in time, while others go on writing."""
        target = Path(path).expanduser()
        if self._location.url is not None:
            raise RegistryError("a PostgreSQL registry is backed up by PostgreSQL's own pg_dump")
        if self._location.missing:
            raise RegistryError(f"there is no registry at {self.url} yet")
        if target.exists():
            raise RegistryError(f"{target} exists; give the backup another name")
        self._database.backup(target)

    def status(self) -> dict[str, Any]:
        """url (no password), schema (None where there is no registry yet), head, runs, models, tasks and bytes."""
        with self._reading() as reader:
            found = reader.counts() if reader else {"runs": 0, "models": 0, "tasks": 0, "bytes": 0}
            return {"url": self.url, "schema": HEAD if reader else None, "head": HEAD, **found}

    def upgrade(self) -> str:
        """Make the registry, or bring it to the newest schema, as every other method does by itself; the schema."""
        with self._database.writing():
            return HEAD

    @cached_property
    def races(self) -> Races:
        """The races, kept beside the runs."""
        return Races(self._connected)

    @contextmanager
    def _connected(self, write: bool) -> Iterator[Connection | None]:
        """A connection in one transaction; None where there is no registry to read."""
        transaction: AbstractContextManager[Reader | None]
        transaction = self._database.writing() if write else self._reading()
        with transaction as reader:
            yield reader.connection if reader else None

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


def _not_one(reference: str, found: list[str], names: dict[str, str]) -> str:
    """Why `reference` means no run, or several, of those in `names`."""
    if found:
        listed = ", ".join(f"{run_id} ({names[run_id]})" for run_id in found[:5])
        return f"{reference!r} fits {len(found)} runs: {listed}{', …' if found[5:] else ''}; give more digits"
    if not names:
        return f"no run {reference!r}: the registry is empty (plop score adds runs)"
    heads = {run_id[: max(4, len(reference))]: f"{run_id} ({name})" for run_id, name in names.items()}
    known = {name: name for name in names.values()} if "/" in reference else heads
    near = difflib.get_close_matches(reference, known, n=3, cutoff=0.3)
    nearest = f"; nearest: {', '.join(known[name] for name in near)}" if near else ""
    return f"no run {reference!r}{nearest} (plop history lists all)"
