"""Everything that is asked of the database. A `Reader` is one open transaction.

What is read is verified: a run with its modules against its id, one without them against its seal. A damaged one is
left out and named in `Reader.damaged`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Executable, Select, Table, func, select, text
from sqlalchemy.exc import DBAPIError

from plop_registry.conditions import Condition, where
from plop_registry.damage import UNREADABLE, is_damage
from plop_registry.errors import RegistryError
from plop_registry.matrix import SampleMatrix
from plop_registry.places import Names
from plop_registry.runs import ModuleScore, PartScore, Run, Skipped, TypeScore, id_of, seal_of
from plop_registry.schema import ANATOMIES, MODELS, MODULE_SCORES, RUNS, SAMPLE_MATRICES, TASKS, TYPE_SCORES

BATCH = 100
"""Runs in memory at once, where all of them are read with their modules."""

_JOINED = RUNS.outerjoin(MODELS).outerjoin(TASKS)  # outer: a run whose model cannot be found is damaged, not unseen
_RUN_COLUMNS = (
    *(column for column in RUNS.c if column not in (RUNS.c.model, RUNS.c.task)),
    MODELS.c.source.label("model_id"),
    MODELS.c.revision.label("model_revision"),
    MODELS.c.label.label("model_label"),
    MODELS.c.architecture,
    TASKS.c.source.label("task_id"),
    TASKS.c.revision.label("task_revision"),
    TASKS.c.texts_hash,
    TASKS.c.samples,
    MODELS.c.path.label("model_path"),
    MODELS.c.adapter_path,
    TASKS.c.path.label("task_path"),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as it lies there, sound or not. `matrix` is its matrix's hash; None where modules were not asked for."""

    number: int
    run: Run
    seal: str | None
    matrix: str | None

    @property
    def sound(self) -> bool:
        """Whether it is what was stored."""
        try:
            if self.matrix is None:
                return self.seal == seal_of(self.run)
            return self.run.id == id_of(self.run.content(), self.matrix)
        except UNREADABLE:
            return False


@dataclass(frozen=True, slots=True)
class Called:
    """What a run is called. `model_known` says whether it is told which of several models of one name it is of."""

    id: str
    model_name: str
    label_name: str
    task_name: str
    model_known: bool

    def __str__(self) -> str:
        return f"{self.model_name}/{self.task_name}"


class Reader:
    """Selects over one consistent snapshot. Runs come newest first everywhere."""

    where = staticmethod(where)

    def __init__(self, connection: Connection) -> None:
        self._connection = self.connection = connection
        self.damaged: dict[str, None] = {}
        """Ids of the runs that were left out, in the order they were met."""

    def runs(self, *conditions: Condition, limit: int | None = None, modules: bool = False) -> list[Run]:
        """The sound runs that fit all conditions: two queries however many they are, three with their modules."""
        sound: list[Run] = []
        seen = 0
        while True:
            wanted = None if limit is None else limit - len(sound)
            found = self.stored(*conditions, limit=wanted, offset=seen, modules=modules)
            for each in found:
                if isinstance(each, Stored) and each.sound:
                    sound.append(each.run)
                else:
                    self.damaged[each.run.id if isinstance(each, Stored) else each] = None
            seen += len(found)
            if wanted is None or len(found) < wanted or len(sound) == limit:
                return sound

    def stored(
        self, *conditions: Condition, limit: int | None = None, offset: int = 0, modules: bool = False
    ) -> list[Stored | str]:
        """The runs that fit all conditions, unverified; the id alone of one that cannot be read."""
        try:
            return [*self._stored(conditions, limit, offset, modules)]
        except UNREADABLE as error:
            if isinstance(error, DBAPIError) and not is_damage(error):
                raise
        # One of them is the reason: halves tell which.
        numbers = self._connection.scalars(newest(select(RUNS.c.number), conditions, limit, offset)).all()
        if len(numbers) == 1:
            return [self._id(numbers[0])]
        half = len(numbers) // 2
        return [
            *self.stored(*conditions, limit=half, offset=offset, modules=modules),
            *self.stored(*conditions, limit=len(numbers) - half, offset=offset + half, modules=modules),
        ]

    def _stored(
        self, conditions: Iterable[Condition], limit: int | None, offset: int, modules: bool
    ) -> Iterator[Stored]:
        columns = select(*_RUN_COLUMNS).select_from(_JOINED)
        if modules:
            columns = select(*_RUN_COLUMNS, SAMPLE_MATRICES.c.sha256).select_from(_JOINED.outerjoin(SAMPLE_MATRICES))
        rows = self._connection.execute(newest(columns, conditions, limit, offset))
        found = [dict(row) for row in rows.mappings()]
        if not found:
            return
        numbers = newest(select(RUNS.c.number), conditions, limit, offset)
        types = defaultdict[int, list[TypeScore]](list)
        for run, name, count, nfn, squared, *rest in self._connection.execute(_scores(TYPE_SCORES, numbers)):
            types[run].append(TypeScore(name, count, _number(nfn), _number(squared), *rest))
        scores = defaultdict[int, list[ModuleScore]](list)
        if modules:
            for row in self._connection.execute(_scores(MODULE_SCORES, numbers)):
                run, _, name, kind, layer, width, height, nfn, squared, *rest = row
                module = ModuleScore(name, kind, layer, width, height, _number(nfn), _number(squared), *rest)
                scores[run].append(module)
        for fields in found:
            number, seal = fields.pop("number"), fields.pop("seal")
            matrix = (fields.pop("sha256") or "") if modules else None
            fields["aliases"] = self._aliases(fields)
            yield Stored(number, _run(fields, types[number], scores[number]), seal, matrix)

    def ids(self, *conditions: Condition, limit: int | None = None) -> list[str]:
        """Ids of the runs that fit all conditions, damaged or not."""
        return list(self._connection.scalars(newest(select(RUNS.c.id), conditions, limit)))

    def named(self, run: Run) -> Run:
        """The run as it is called in this registry."""
        fields = ("model_id", "model_label", "task_id", "model_path", "adapter_path", "task_path")
        return replace(run, aliases=self._aliases({name: getattr(run, name) for name in fields}))

    def called(self, *conditions: Condition) -> Iterator[Called]:
        """What the runs that fit are called, newest first."""
        columns = [RUNS.c.id, *(column for column in _RUN_COLUMNS if column.table is not RUNS)]
        for row in self._connection.execute(newest(select(*columns).select_from(_JOINED), conditions)):
            fields = dict(row._mapping)
            ids = (("model", fields["model_id"]), ("label", fields["model_label"]), ("task", fields["task_id"]))
            aliases, known = self._aliases(fields), self._names.known(fields["model_id"], fields["model_path"])
            model, label, task = (aliases.get(each, each[1]) for each in ids)
            yield Called(fields["id"], model, label, task, model_known=known)

    def _aliases(self, fields: Mapping[str, Any]) -> dict[tuple[str, str], str]:
        """What a run's model, its label and its task are called in this registry, where that is not their id."""
        if not any(fields[path] for path in ("model_path", "adapter_path", "task_path")):
            return {}
        model, label, task = fields["model_id"], fields["model_label"], fields["task_id"]
        return {
            ("model", model): self._names.model(model, label, fields["model_path"]),
            ("label", label): self._names.label(label, fields["adapter_path"]),
            ("task", task): self._names.task(task, fields["task_path"]),
        }

    @cached_property
    def _names(self) -> Names:
        models = select(MODELS.c.source, MODELS.c.revision, MODELS.c.label, MODELS.c.path, MODELS.c.adapter_path)
        tasks = select(TASKS.c.source, TASKS.c.path).distinct()
        try:
            return Names(*([tuple(row) for row in self._connection.execute(query)] for query in (models, tasks)))
        except DBAPIError as error:
            if not is_damage(error):
                raise
            return Names([], [])

    def whole(self, ids: Sequence[str]) -> Iterator[tuple[Run, SampleMatrix, bytes]]:
        """Of these runs those that are sound, with their modules and their matrix, unpacked and packed, in this order.

        Some few are in memory at once.
        """
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            runs = {run.id: run for run in self.runs(RUNS.c.id.in_(batch), modules=True)}
            packed = self.packed(batch)
            for run_id in batch:
                try:
                    yield runs[run_id], SampleMatrix.verified(*packed[run_id]), packed[run_id][1]
                except (RegistryError, KeyError):
                    self.damaged[run_id] = None

    def packed(self, ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """Hash and bytes of the sample matrix of each of some few runs, by id; not of one that cannot be read."""
        columns = select(RUNS.c.id, SAMPLE_MATRICES.c.sha256, SAMPLE_MATRICES.c.packed)
        query = columns.select_from(RUNS.join(SAMPLE_MATRICES)).where(RUNS.c.id.in_(ids))
        try:
            return {run_id: (sha256, packed) for run_id, sha256, packed in self._connection.execute(query)}
        except DBAPIError as error:
            if not is_damage(error):
                raise
        half = len(ids) // 2
        return {} if len(ids) == 1 else {**self.packed(ids[:half]), **self.packed(ids[half:])}

    def anatomy(self, revision: str, transformers: str) -> bytes | None:
        """The packed anatomy of the model at this revision."""
        row = ANATOMIES.c.model_revision == revision, ANATOMIES.c.transformers == transformers
        packed: bytes | None = self._connection.scalar(select(ANATOMIES.c.packed).where(*row))
        return packed

    def counts(self) -> dict[str, int]:
        """How many runs, models (each revision is one), tasks and bytes there are."""
        sizes = {
            "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
            "postgresql": "SELECT pg_database_size(current_database())",
        }
        size = text(sizes[self._connection.dialect.name])
        counts: dict[str, Executable] = {
            table.name: select(func.count()).select_from(table) for table in (RUNS, MODELS, TASKS)
        }
        return {name: int(self._connection.scalar(query)) for name, query in {**counts, "bytes": size}.items()}

    def damage(self) -> Iterator[str]:
        """What SQLite's own checks find; PostgreSQL has none to call (pg_amcheck is its tool)."""
        if self._connection.dialect.name != "sqlite":
            return
        try:
            yield from (line for line in self._connection.scalars(text("PRAGMA integrity_check")) if line != "ok")
            for orphan in self._connection.execute(text("PRAGMA foreign_key_check")):
                yield f"row without its parent: {tuple(orphan)}"
        except DBAPIError as error:
            if not is_damage(error):
                raise
            yield f"the file is damaged: {error.orig}"

    def _id(self, number: int) -> str:
        """The id of a run that cannot be read, or what there is in its place."""
        try:
            return str(self._connection.scalar(select(RUNS.c.id).where(RUNS.c.number == number)))
        except DBAPIError as error:
            if not is_damage(error):
                raise
            return f"number {number}"


def newest(
    columns: Select[Any], conditions: Iterable[Condition] = (), limit: int | None = None, offset: int = 0
) -> Select[Any]:
    """A select over runs, newest first."""
    ordered = columns.where(*conditions).order_by(RUNS.c.created_at.desc(), RUNS.c.id.desc())
    return ordered.limit(limit).offset(offset or None)


def _scores(table: Table, numbers: Select[Any]) -> Select[Any]:
    return select(table).where(table.c.run.in_(numbers)).order_by(*table.primary_key)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _run(fields: Mapping[str, Any], types: Iterable[TypeScore], modules: Iterable[ModuleScore]) -> Run:
    lists = {
        "skipped": tuple(Skipped(**skipped) for skipped in fields["skipped"]),
        "warnings": tuple(fields["warnings"]),
        "parts": tuple(PartScore(**part) for part in fields["parts"] or ()),
    }
    return Run(**{**fields, **lists}, types=tuple(types), modules=tuple(modules))
