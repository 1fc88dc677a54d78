"""The two names that a revision of weights on a disk can have, since these are hashed otherwise than they once were.

Runs keep the name that they were stored under, which is part of their id. A model that is met again and has such runs
is known by both from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Former(NamedTuple):
    """By SHA-256, 64 digits without a suffix: what a revision was called, and the start of the hash of its adapters."""

    revision: str
    adapter: str | None


class Revisions:
    """The revisions' names in one registry, which `Registry.revisions` is."""

    def __init__(self, connected: Callable[[bool], AbstractContextManager[Connection | None]]) -> None:
        self._connected = connected

    def old(self, model_id: str) -> set[str]:
        """The former names of revisions that runs of models of this id have."""
        with self._connected(False) as connection:
            if connection is None:
                return set()
            from sqlalchemy import func, select

            from plop_registry.schema import MODELS

            of_model = MODELS.c.source == model_id, func.length(MODELS.c.revision) == 64
            return set(connection.scalars(select(MODELS.c.revision).where(*of_model)))

    def former(self, revision: str) -> Former | None:
        """What this revision was called; None where that is not known."""
        with self._connected(False) as connection:
            if connection is None:
                return None
            from sqlalchemy import select

            from plop_registry.schema import REVISIONS

            names = select(REVISIONS.c.former, REVISIONS.c.former_adapter).where(REVISIONS.c.revision == revision)
            row = connection.execute(names).one_or_none()
            return None if row is None else Former(*row)

    def keep(self, revision: str, former: Former) -> None:
        """Store both names."""
        with self._connected(True) as connection:
            assert connection is not None
            from sqlalchemy import delete, insert

            from plop_registry.schema import REVISIONS

            connection.execute(delete(REVISIONS).filter_by(revision=revision))
            values = {"revision": revision, "former": former.revision, "former_adapter": former.adapter}
            connection.execute(insert(REVISIONS).values(values))
