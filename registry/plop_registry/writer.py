"""Everything that changes the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Table, bindparam, delete, exists, insert, select, update

from plop_registry.queries import BATCH, Reader, Stored
from plop_registry.runs import Run, seal_of
from plop_registry.schema import ANATOMIES, MODELS, MODULE_SCORES, REVISIONS, RUNS, SAMPLE_MATRICES, TASKS, TYPE_SCORES

_CHUNK = 500  # ids in one IN (...), well under every database's limit
_OWN_COLUMNS = {column.name for column in RUNS.c} - {"number", "model", "task", "skipped", "warnings", "parts", "seal"}


class Writer(Reader):
    """A Reader that may change things, the only one at a time."""

    def add(self, run: Run, sha256: str, packed: bytes) -> bool:
        """Store a run that has its id and modules; False where it is already stored. A damaged copy gives way to it."""
        if self.ids(RUNS.c.id == run.id):
            if any(self.whole([run.id])):
                return False
            self.remove([run.id])
        content = run.content()
        model = {
            "source": run.model_id,
            "revision": run.model_revision,
            "label": run.model_label,
            "architecture": run.architecture,
            "path": run.model_path,
            "adapter_path": run.adapter_path,
        }
        task = {
            "source": run.task_id,
            "revision": run.task_revision,
            "texts_hash": run.texts_hash,
            "samples": run.samples,
            "path": run.task_path,
        }
        fields = {name: getattr(run, name) for name in _OWN_COLUMNS}
        fields |= {"skipped": content["skipped"], "warnings": content["warnings"], "parts": content.get("parts")}
        fields["seal"] = seal_of(run)
        fields |= {"model": self._number_of(MODELS, model), "task": self._number_of(TASKS, task)}
        number = self._insert(RUNS, fields)
        modules = [{"position": position, **score} for position, score in enumerate(content["modules"])]
        for table, scores in ((TYPE_SCORES, content["types"]), (MODULE_SCORES, modules)):
            if scores:
                self._connection.execute(insert(table), [{"run": number, **score} for score in scores])
        self._insert(SAMPLE_MATRICES, {"run": number, "sha256": sha256, "packed": packed})
        return True

    def describe(self, run: Run) -> None:
        """Store the name and the note of a run that is there."""
        values = {"name": run.name, "note": run.note, "seal": seal_of(run)}
        self._connection.execute(update(RUNS).where(RUNS.c.id == run.id).values(values))

    def remove(self, ids: Iterable[str]) -> int:
        """Delete runs with all that is theirs, and the models and tasks that no run needs any more."""
        listed, removed = list(ids), 0
        for start in range(0, len(listed), _CHUNK):
            chosen = RUNS.c.id.in_(listed[start : start + _CHUNK])
            removed += self._connection.execute(delete(RUNS).where(chosen)).rowcount
        for table, reference in ((MODELS, RUNS.c.model), (TASKS, RUNS.c.task)):
            self._connection.execute(delete(table).where(~exists().where(reference == table.c.id)))
        known = select(MODELS.c.revision)
        self._connection.execute(delete(ANATOMIES).where(ANATOMIES.c.model_revision.not_in(known)))
        self._connection.execute(delete(REVISIONS).where(REVISIONS.c.former.not_in(known)))
        return removed

    def keep_anatomy(self, revision: str, transformers: str, packed: bytes) -> None:
        """Store a model's packed anatomy; a damaged one gives way to it."""
        values = {"model_revision": revision, "transformers": transformers}
        self._connection.execute(delete(ANATOMIES).filter_by(**values))
        self._connection.execute(insert(ANATOMIES).values({**values, "packed": packed}))

    def seal(self) -> None:
        """Give a seal to every run that has none and is sound: those that are older than seals."""
        unsealed, seals, offset = RUNS.c.seal.is_(None), list[dict[str, Any]](), 0
        while found := self.stored(unsealed, limit=BATCH, offset=offset, modules=True):
            offset += len(found)
            sound = (each for each in found if isinstance(each, Stored) and each.sound)
            seals += [{"run": each.number, "sealed": seal_of(each.run)} for each in sound]
        if seals:
            sealing = update(RUNS).where(RUNS.c.number == bindparam("run")).values(seal=bindparam("sealed"))
            self._connection.execute(sealing, seals)

    def _insert(self, table: Table, values: Mapping[str, Any]) -> int:
        key = self._connection.execute(insert(table).values(values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _number_of(self, table: Table, values: Mapping[str, Any]) -> int:
        known = self._connection.scalar(select(table.c.id).filter_by(**values))
        return self._insert(table, values) if known is None else int(known)
