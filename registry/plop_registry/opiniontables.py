"""The tables of opinions: everything that is asked of them and that changes them, in one open transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.exc import DBAPIError

from plop_registry.damage import is_damage
from plop_registry.errors import RegistryError
from plop_registry.opinions import Opinion
from plop_registry.schema import RUN_OPINIONS, RUNS, WEIGHT_OPINIONS


class OpinionTables:
    """What `Opinions` does, on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_weights(self, revision: str, precision: str) -> dict[str, Opinion]:
        """What is known of the weights of a revision, by method."""
        return self._opinions(WEIGHT_OPINIONS, {"model_revision": revision, "precision": precision})

    def of_run(self, run_id: str) -> dict[str, Opinion]:
        """What is known of the activations of a run, by method."""
        number = self._number(run_id)
        return {} if number is None else self._opinions(RUN_OPINIONS, {"run": number})

    def keep_of_weights(self, revision: str, precision: str, opinions: Iterable[Opinion]) -> None:
        """Store these in place of what there is of the same methods."""
        self._keep(WEIGHT_OPINIONS, {"model_revision": revision, "precision": precision}, opinions)

    def keep_of_run(self, run_id: str, opinions: Iterable[Opinion]) -> None:
        """Likewise; RegistryError where the run is gone."""
        number = self._number(run_id)
        if number is None:
            raise RegistryError(f"there is no run {run_id} any more; score it again")
        self._keep(RUN_OPINIONS, {"run": number}, opinions)

    def problems(self) -> Iterator[str]:
        """What is wrong with stored opinions, a line for each."""
        of_weights = select(WEIGHT_OPINIONS.c.model_revision, WEIGHT_OPINIONS.c.method, WEIGHT_OPINIONS.c.packed)
        of_runs = select(RUNS.c.id, RUN_OPINIONS.c.method, RUN_OPINIONS.c.packed).join_from(RUN_OPINIONS, RUNS)
        for kind, query in (("model", of_weights), ("run", of_runs)):
            try:
                for subject, method, packed in self._connection.execute(query):
                    if _sound(method, packed) is None:
                        yield f"{kind} {subject}: what is stored of {method} is damaged; it will be computed again"
            except DBAPIError as error:
                if not is_damage(error):
                    raise
                yield f"opinions cannot be read ({error.orig})"

    def _number(self, run_id: str) -> int | None:
        number: int | None = self._connection.scalar(select(RUNS.c.number).where(RUNS.c.id == run_id))
        return number

    def _opinions(self, table: Table, row: Mapping[str, Any]) -> dict[str, Opinion]:
        query = select(table.c.method, table.c.packed).filter_by(**row).order_by(table.c.method)
        found = {method: _sound(method, packed) for method, packed in self._connection.execute(query)}
        return {method: opinion for method, opinion in found.items() if opinion}

    def _keep(self, table: Table, row: Mapping[str, Any], opinions: Iterable[Opinion]) -> None:
        for opinion in opinions:
            own = {**row, "method": opinion.method}
            self._connection.execute(delete(table).filter_by(**own))
            self._connection.execute(insert(table).values(**own, packed=opinion.pack()))


def _sound(method: str, packed: bytes) -> Opinion | None:
    """The opinion, unless it is damaged or another method's."""
    try:
        opinion = Opinion.unpack(packed)
    except RegistryError:
        return None
    return opinion if opinion.method == method else None
