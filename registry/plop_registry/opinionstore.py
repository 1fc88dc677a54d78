"""The opinions of a registry.

    registry.opinions.keep_of_weights(revision, "float32", [opinion])
    registry.opinions.of_weights(revision, "float32")["kappa"].values

Those of the weights are of a revision of a model at a precision, those of activations of a run. Exports do not carry
them: they can be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from plop_registry.opinions import Opinion

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from plop_registry.opiniontables import OpinionTables


class Opinions:
    """The opinions in one registry, which `Registry.opinions` is. A damaged one is left out, to be computed again."""

    def __init__(self, connected: Callable[[bool], AbstractContextManager[Connection | None]]) -> None:
        self._connected = connected

    def of_weights(self, revision: str, precision: str) -> dict[str, Opinion]:
        """By method, what is known of the weights of a revision.

        Args: `precision`, what the weights were in memory: a dtype, or the name of what they are quantized to.
        """
        with self._tables(write=False) as tables:
            return tables.of_weights(revision, precision) if tables else {}

    def keep_of_weights(self, revision: str, precision: str, opinions: Iterable[Opinion]) -> None:
        """Store what methods say of the weights of a revision, in place of what they said before."""
        with self._tables(write=True) as tables:
            assert tables is not None
            tables.keep_of_weights(revision, precision, opinions)

    def of_run(self, run_id: str) -> dict[str, Opinion]:
        """By method, what is known of the activations of a run, by its whole id."""
        with self._tables(write=False) as tables:
            return tables.of_run(run_id) if tables else {}

    def keep_of_run(self, run_id: str, opinions: Iterable[Opinion]) -> None:
        """Store what methods say of the activations of a stored run; they go when it goes.

        Raises RegistryError where there is no such run.
        """
        with self._tables(write=True) as tables:
            assert tables is not None
            tables.keep_of_run(run_id, opinions)

    @contextmanager
    def _tables(self, *, write: bool) -> Iterator[OpinionTables | None]:
        with self._connected(write) as connection:
            if connection is None:
                yield None
            else:
                from plop_registry.opiniontables import OpinionTables

                yield OpinionTables(connection)
