"""The registry: every score kept, found again, compared.

    with Registry() as registry:                       # $PLOP_REGISTRY, else the user's data folder
        run = registry.find(key) or registry.add(run, matrix)
        for run in registry.runs(model="*SmolLM2*", limit=20):
            print(run.id, run.recommended)

SQLAlchemy is imported when there is a database to open, not before: a registry that does not exist reads as empty, at
once, and the first `add` makes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from plop_registry.anatomy import Anatomy
from plop_registry.errors import RegistryError
from plop_registry.matrix import SampleMatrix
from plop_registry.opened import Opened
from plop_registry.opinionstore import Opinions
from plop_registry.racestore import Races, add_line
from plop_registry.references import candidates, damaged, meant
from plop_registry.revisions import Revisions
from plop_registry.runs import Run, id_of
from plop_registry.transfer import to_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from plop_registry.asking import Answer
    from plop_registry.queries import Reader

_NO_TEXT = re.compile(r"[\ud800-\udfff]|(?<!\\)(\\\\)*\\u0000")  # in JSON, which escapes NUL


class Registry(Opened):
    """Append-only store of runs and races in an SQLite file or a PostgreSQL database.

    Args: `url`, a path, `sqlite:///path` or `postgresql://user@host/database`; None is `default_url()`.

    Nothing is opened until the first call, which also brings an older schema up to date. Every method raises
    RegistryError for what a user can mend: a file that is no registry, a full disk, a registry of a newer plop.

    What is read is verified. A run that is no longer what was stored is left out, and named in a warning of the logger
    "plop_registry"; where it is the very run that was asked for, that is a RegistryError.
    """

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
        whole = {**content, **run.remarks()}
        if _NO_TEXT.search(json.dumps(whole, ensure_ascii=False)):
            raise RegistryError("a name of this run has NUL or bytes that are no UTF-8; rename what has it")
        stored = Run.from_content(whole, id_of(content, sha256))
        packed = matrix.pack()
        with self._database.writing() as writer:
            writer.add(stored, sha256, packed)
            return writer.named(stored)

    def describe(self, run_ids: Iterable[str], *, name: str | None = None, note: str | None = None) -> None:
        """Call stored runs, by their whole ids, `name`, and note something of them; None leaves what there is."""
        said: dict[str, Any] = {key: text for key, text in (("name", name), ("note", note)) if text is not None}
        with self._database.writing() as writer:
            for run in (run for each in run_ids for run in writer.runs(*writer.where(id=each))):
                writer.describe(replace(run, **said))

    def runs(
        self,
        *,
        key: str | None = None,
        model: str | None = None,
        task: str | None = None,
        revision: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        name: str | None = None,
        note: str | None = None,
        limit: int | None = None,
        modules: bool = False,
    ) -> list[Run]:
        """Runs, newest first, with the scores of their types, and of their modules where asked.

        Args:
            key: what the run is found by (`run_key`).
            model: shell glob on the model's id, or on the end of its path, and @label or @revision after these.
            task: shell glob on the task's id, or on the end of its path.
            revision: the model's label or (the start of) its revision; a shell glob too.
            type: shell glob on the name of a module type, one of which the run has.
            since, until: aware datetimes, both included.
            name, note: shell globs on what its user calls the run, and notes of it.
        """
        with self._reading() as reader:
            if reader is None:
                return []
            names = {
                "key": key,
                "model": model,
                "task": task,
                "revision": revision,
                "type": type,
                "name": name,
                "note": note,
            }
            return reader.runs(*reader.where(since=since, until=until, **names), limit=limit, modules=modules)

    def get(self, reference: str) -> Run:
        """The one run, with its modules, that `reference` means.

        Args: `reference`, an id or its first 2 or more digits, "latest", what its user calls it, or MODEL/TASK for the
            newest run of both.

        Raises RegistryError naming the nearest ids where there is none, and the candidates where there are several.
        """
        with self._reading() as reader:
            run_id = meant(reader, reference, self.races.meant_by)
            for run in reader.runs(*reader.where(id=run_id), modules=True) if reader else ():
                return run
            raise RegistryError(damaged([run_id]))

    def meant_by(self, reference: str) -> list[str]:
        """Ids of the runs that `reference` may mean, newest first, damaged or not; empty where it means none."""
        with self._reading() as reader:
            return candidates(reader, reference) if reader else []

    def resolve(self, reference: str) -> str:
        """The id of the one run that `reference` means, as in `get`, even where that run is damaged."""
        with self._reading() as reader:
            return meant(reader, reference, self.races.meant_by)

    def matrix(self, run_id: str) -> SampleMatrix:
        """The sample matrix of a run; RegistryError where one of the two is damaged."""
        with self._reading() as reader:
            if reader is None or not reader.ids(*reader.where(id=run_id)):
                raise RegistryError(f"no run {run_id!r} in {self.url}; plop history lists the runs")
            stored = reader.packed([run_id]).get(run_id)
            if stored is None or not reader.runs(*reader.where(id=run_id), modules=True):
                raise RegistryError(damaged([run_id]))
        try:
            return SampleMatrix.verified(*stored)
        except RegistryError as error:
            raise RegistryError(f"{error} in run {run_id}; restore a backup, or remove the run") from error

    def with_modules(self, runs: Iterable[Run]) -> list[Run]:
        """These runs with their modules, in this order; without those that are damaged."""
        ids = [run.id for run in runs]
        with self._reading() as reader:
            found = (run for each in ids for run in reader.runs(*reader.where(id=each), modules=True)) if reader else ()
            return [*found]

    def whole(self, runs: Iterable[Run]) -> list[tuple[Run, SampleMatrix]]:
        """These runs with their modules, each with its sample matrix, in this order; without those that are damaged."""
        with self._reading() as reader:
            ids = [run.id for run in runs]
            return [(run, matrix) for run, matrix, _ in reader.whole(ids)] if reader else []

    def anatomy(self, revision: str, transformers: str) -> Anatomy | None:
        """What the model at this revision is made of, as that version of transformers builds it; None if unknown."""
        with self._reading() as reader:
            packed = reader.anatomy(revision, transformers) if reader else None
        return None if packed is None else Anatomy.unpack(packed)

    def keep_anatomy(self, revision: str, transformers: str, anatomy: Anatomy) -> None:
        """Store what the model at this revision is made of."""
        with self._database.writing() as writer:
            writer.keep_anatomy(revision, transformers, anatomy.pack())

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
            if reader is None:
                return
            ids = [run.id for run in reader.runs(*reader.where(**filters), limit=limit)][::-1]
            for run, _, packed in reader.whole(ids):
                yield to_line(run, packed)

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
        """What is wrong with the file, each run, race and opinion, a line for each problem; empty when all is well."""
        from plop_registry.opiniontables import OpinionTables
        from plop_registry.racetables import RaceTables
        from plop_registry.verify import problems_of

        with self._reading() as reader:
            if reader is None:
                return []
            kinds = RaceTables(reader.connection), OpinionTables(reader.connection)
            return [*reader.damage(), *problems_of(reader), *(line for kind in kinds for line in kind.problems())]

    @cached_property
    def races(self) -> Races:
        """The races, kept beside the runs."""
        return Races(self._connected)

    @cached_property
    def revisions(self) -> Revisions:
        """The names that revisions of weights had before."""
        return Revisions(self._connected)

    @cached_property
    def opinions(self) -> Opinions:
        """What other methods say of weights and of runs."""
        return Opinions(self._connected)

    @contextmanager
    def query(self, sql: str, *, timeout: float = 60.0) -> Iterator[Answer]:
        """The answer to a SELECT over the views that docs/registry.md describes, read as it is iterated over.

        Args: `timeout`, in seconds of the database's own work. RegistryError for a query that writes, is wrong or takes
        longer, and where there is no registry. What is read is not verified against its seals.
        """
        if self._location.missing:
            raise RegistryError(f"there is no registry at {self.url} to ask; plop score makes it")
        with self._database.asking(sql, timeout) as answer:
            yield answer

    @contextmanager
    def _connected(self, write: bool) -> Iterator[Connection | None]:
        """A connection in one transaction; None where there is no registry to read."""
        transaction: AbstractContextManager[Reader | None]
        transaction = self._database.writing() if write else self._reading()
        with transaction as reader:
            yield reader.connection if reader else None
