"""Everything that is asked of the database. A `Reader` or a `Writer` is one open transaction."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
)

from plop_registry.globs import fits
from plop_registry.runs import ModuleScore, PartScore, Run, Skipped, TypeScore
from plop_registry.schema import MODELS, MODULE_SCORES, RUNS, SAMPLE_MATRICES, TASKS, TYPE_SCORES

Condition = ColumnElement[bool]

_BATCH = 100  # runs in memory at once, where all of them are read
_CHUNK = 500  # ids in one IN (...), well under every database's limit
_JOINED = RUNS.join(MODELS).join(TASKS)
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
)
_OWN_COLUMNS = {column.name for column in RUNS.c} - {"number", "model", "task", "skipped", "warnings", "parts"}


class Reader:
    """Selects over one consistent snapshot. Runs come newest first everywhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = self.connection = connection

    @staticmethod
    def where(
        *,
        id: str | None = None,
        key: str | None = None,
        model: str | None = None,
        task: str | None = None,
        revision: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Condition]:
        """What must hold for a run; `Registry.runs` says how each is read. ValueError for a naive datetime."""
        if any(moment and moment.tzinfo is None for moment in (since, until)):
            raise ValueError("since and until must be aware datetimes")
        conditions: tuple[tuple[Callable[[Any], Condition], object], ...] = (
            (lambda value: RUNS.c.id == value, id),
            (lambda value: RUNS.c.key == value, key),
            (_of_model, model),
            (_of_task, task),
            (_of_revision, revision),
            (_with_type, type),
            (lambda value: RUNS.c.created_at >= value, since),
            (lambda value: RUNS.c.created_at <= value, until),
        )
        return [condition(value) for condition, value in conditions if value is not None]

    def runs(self, *conditions: Condition, limit: int | None = None, modules: bool = False) -> list[Run]:
        """The runs that fit all conditions: two queries however many they are, three with their modules."""
        rows = self._connection.execute(newest(select(*_RUN_COLUMNS).select_from(_JOINED), conditions, limit))
        found = [dict(row) for row in rows.mappings()]
        if not found:
            return []
        numbers = newest(select(RUNS.c.number), conditions, limit)
        types = defaultdict[int, list[TypeScore]](list)
        for run, name, count, nfn, squared, *rest in self._connection.execute(_scores(TYPE_SCORES, numbers)):
            types[run].append(TypeScore(name, count, _number(nfn), _number(squared), *rest))
        scores = defaultdict[int, list[ModuleScore]](list)
        if modules:
            for row in self._connection.execute(_scores(MODULE_SCORES, numbers)):
                run, _, name, kind, layer, width, height, nfn, squared, *rest = row
                module = ModuleScore(name, kind, layer, width, height, _number(nfn), _number(squared), *rest)
                scores[run].append(module)
        return [_run(fields, types[fields["number"]], scores[fields["number"]]) for fields in found]

    def ids(self, *conditions: Condition, limit: int | None = None) -> list[str]:
        """Ids of the runs that fit all conditions."""
        return list(self._connection.scalars(newest(select(RUNS.c.id), conditions, limit)))

    def names(self) -> dict[str, str]:
        """MODEL/TASK of every run, by id."""
        columns = select(RUNS.c.id, MODELS.c.source, TASKS.c.source).select_from(_JOINED)
        return {run_id: f"{model}/{task}" for run_id, model, task in self._connection.execute(newest(columns))}

    def meant_by(self, reference: str) -> list[str]:
        """Ids of the runs that "latest", (the start of) an id or MODEL/TASK means: several where digits are missing."""
        if reference == "latest":
            return self.ids(limit=1)
        if re.fullmatch(r"[0-9a-f]{4,16}", reference.lower()):
            return self.ids(RUNS.c.id.startswith(reference.lower()))
        slashes = [found.start() for found in re.finditer("/", reference)]
        either = [and_(*self.where(model=reference[:at], task=reference[at + 1 :])) for at in slashes]
        return self.ids(or_(*either), limit=1) if either else []

    def whole(self, *conditions: Condition, limit: int | None = None) -> Iterator[tuple[Run, tuple[str, bytes] | None]]:
        """Each run with its modules, and hash and bytes of its matrix, oldest first; some few in memory at once."""
        ids = self.ids(*conditions, limit=limit)[::-1]
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            matrices = self.packed(batch)
            for run in reversed(self.runs(RUNS.c.id.in_(batch), modules=True)):
                yield run, matrices.get(run.id)

    def packed(self, ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """Hash and bytes of the sample matrix of each of some few runs, by id."""
        columns = select(RUNS.c.id, SAMPLE_MATRICES.c.sha256, SAMPLE_MATRICES.c.packed)
        rows = self._connection.execute(columns.select_from(RUNS.join(SAMPLE_MATRICES)).where(RUNS.c.id.in_(ids)))
        return {run_id: (sha256, packed) for run_id, sha256, packed in rows}

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

    def damage(self) -> list[str]:
        """What SQLite's own checks find; PostgreSQL has none to call (pg_amcheck is its tool)."""
        if self._connection.dialect.name != "sqlite":
            return []
        found = self._connection.scalars(text("PRAGMA integrity_check")).all()
        orphans = self._connection.execute(text("PRAGMA foreign_key_check")).all()
        return [line for line in found if line != "ok"] + [f"row without its parent: {tuple(row)}" for row in orphans]


class Writer(Reader):
    """A Reader that may change things, the only one at a time."""

    def add(self, run: Run, sha256: str, packed: bytes) -> bool:
        """Store a run that has its id and modules; False where that id is already stored."""
        if self.ids(RUNS.c.id == run.id):
            return False
        content = run.content()
        model = {
            "source": run.model_id,
            "revision": run.model_revision,
            "label": run.model_label,
            "architecture": run.architecture,
        }
        task = {
            "source": run.task_id,
            "revision": run.task_revision,
            "texts_hash": run.texts_hash,
            "samples": run.samples,
        }
        fields = {name: getattr(run, name) for name in _OWN_COLUMNS}
        fields |= {"skipped": content["skipped"], "warnings": content["warnings"], "parts": content.get("parts")}
        fields |= {"model": self._number_of(MODELS, model), "task": self._number_of(TASKS, task)}
        number = self._insert(RUNS, fields)
        modules = [{"position": position, **score} for position, score in enumerate(content["modules"])]
        for table, scores in ((TYPE_SCORES, content["types"]), (MODULE_SCORES, modules)):
            if scores:
                self._connection.execute(insert(table), [{"run": number, **score} for score in scores])
        self._insert(SAMPLE_MATRICES, {"run": number, "sha256": sha256, "packed": packed})
        return True

    def remove(self, ids: Iterable[str]) -> int:
        """Delete runs with all that is theirs, and the models and tasks that no run needs any more."""
        listed, removed = list(ids), 0
        for start in range(0, len(listed), _CHUNK):
            chosen = RUNS.c.id.in_(listed[start : start + _CHUNK])
            removed += self._connection.execute(delete(RUNS).where(chosen)).rowcount
        for table, reference in ((MODELS, RUNS.c.model), (TASKS, RUNS.c.task)):
            self._connection.execute(delete(table).where(~exists().where(reference == table.c.id)))
        return removed

    def _insert(self, table: Table, values: Mapping[str, Any]) -> int:
        key = self._connection.execute(insert(table).values(values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _number_of(self, table: Table, values: Mapping[str, Any]) -> int:
        known = self._connection.scalar(select(table.c.id).filter_by(**values))
        return self._insert(table, values) if known is None else int(known)


def newest(columns: Select[Any], conditions: Iterable[Condition] = (), limit: int | None = None) -> Select[Any]:
    """A select over runs, newest first."""
    return columns.where(*conditions).order_by(RUNS.c.created_at.desc(), RUNS.c.id.desc()).limit(limit)


def _of_model(pattern: str) -> Condition:
    name, at, revision = pattern.rpartition("@")
    means = fits(MODELS.c.source, pattern)
    if at:
        means = or_(means, and_(fits(MODELS.c.source, name), _revision(revision)))
    return RUNS.c.model.in_(select(MODELS.c.id).where(means))


def _of_revision(pattern: str) -> Condition:
    return RUNS.c.model.in_(select(MODELS.c.id).where(_revision(pattern)))


def _of_task(pattern: str) -> Condition:
    return RUNS.c.task.in_(select(TASKS.c.id).where(fits(TASKS.c.source, pattern)))


def _with_type(pattern: str) -> Condition:
    own = TYPE_SCORES.alias()  # not to be taken for the scores that are selected around it
    return exists().where(own.c.run == RUNS.c.number, fits(own.c.type, pattern))


def _revision(pattern: str) -> Condition:
    return or_(fits(MODELS.c.label, pattern), fits(MODELS.c.revision, pattern + "*"))


def _scores(table: Table, numbers: Select[Any]) -> Select[Any]:
    return select(table).where(table.c.run.in_(numbers)).order_by(*table.primary_key)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _run(fields: dict[str, Any], types: Iterable[TypeScore], modules: Iterable[ModuleScore]) -> Run:
    del fields["number"]
    fields["skipped"] = tuple(Skipped(**skipped) for skipped in fields["skipped"])
    fields["warnings"] = tuple(fields["warnings"])
    fields["parts"] = tuple(PartScore(**part) for part in fields["parts"] or ())
    return Run(**fields, types=tuple(types), modules=tuple(modules))
