"""The races in one open transaction: they are few and small, so what is asked of them is asked in Python.

What is read is verified: a race against its seal, each lap against its own hash. A damaged race is left out, and named
in `RaceTables.damaged`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from plop_registry.damage import UNREADABLE, is_damage
from plop_registry.errors import RegistryError
from plop_registry.races import Entry, Lap, Race, entry_content, entry_from
from plop_registry.references import damaged
from plop_registry.runs import canonical
from plop_registry.schema import ENTRIES, LAPS, RACES

_NEWEST = (RACES.c.created_at.desc(), RACES.c.key.desc())
_LAP = tuple(column for column in LAPS.c if column.name not in ("race", "packed"))


class RaceTables:
    """Reads and writes races, entries and laps on a connection of `Database`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.damaged: list[str] = []

    def races(self, ids: Iterable[str] | None = None) -> list[Race]:
        """These races or all, newest first, whole; without the damaged ones."""
        query = select(RACES.c.number, RACES.c.id).order_by(*_NEWEST)
        if ids is not None:
            query = query.where(RACES.c.id.in_(list(ids)))
        found = []
        for number, race_id in self._connection.execute(query).all():
            if any(self._problems(number)):
                self.damaged.append(race_id)
            else:
                found.append(self._race(number))
        return found

    def ids(self) -> list[str]:
        """Ids of all races, newest first, damaged or not."""
        return list(self._connection.scalars(select(RACES.c.id).order_by(*_NEWEST)))

    def problems(self) -> Iterator[str]:
        """What is wrong with each race, newest first: a line for each problem."""
        for number, race_id in self._connection.execute(select(RACES.c.number, RACES.c.id).order_by(*_NEWEST)).all():
            yield from (f"race {race_id}: {problem}" for problem in self._problems(number))

    def add(self, race: Race) -> bool:
        """Store what of a race is not stored yet; whether that was anything. RegistryError where that is damaged."""
        number = self._connection.scalar(select(RACES.c.number).where(RACES.c.id == race.id))
        news = number is None
        if number is None:
            values = race.content() | {"id": race.id, "created_at": race.created_at, "seal": ""}
            key = self._connection.execute(insert(RACES).values(values)).inserted_primary_key
            assert key is not None
            number = int(key[0])
        elif any(self._problems(number)):
            raise RegistryError(damaged([race.id], "race"))
        elif race.nfn:
            self._connection.execute(update(RACES).where(RACES.c.number == number).values(nfn=race.nfn))
        news |= self._add_entries(number, race.entries) | self._add_laps(number, race.laps)
        self._connection.execute(update(RACES).where(RACES.c.number == number).values(seal=self._seal(number)))
        return news

    def remove(self, ids: Iterable[str]) -> int:
        """Delete races with all that is theirs; how many there were."""
        return self._connection.execute(delete(RACES).where(RACES.c.id.in_(list(ids)))).rowcount

    def _problems(self, number: int) -> Iterator[str]:
        try:
            race, seal = self._race(number), self._connection.scalar(select(RACES.c.seal).filter_by(number=number))
            if seal != self._seal(number):
                yield "its row, entries or laps do not match their seal"
            yield from race.problems()
        except UNREADABLE as error:
            if isinstance(error, DBAPIError) and not is_damage(error):
                raise
            yield f"it cannot be read ({error})"
        except RegistryError as error:
            yield str(error)

    def _race(self, number: int) -> Race:
        laps = self._connection.execute(select(*_LAP, LAPS.c.packed).filter_by(race=number).order_by(*LAPS.primary_key))
        return Race(
            **self._row(number),
            entries=tuple(self._entries(number)),
            laps=tuple(Lap.unpack(**row) for row in laps.mappings()),
        )

    def _row(self, number: int) -> dict[str, Any]:
        row = self._connection.execute(select(RACES).filter_by(number=number)).mappings().one()
        return {name: value for name, value in row.items() if name not in ("number", "id", "seal")}

    def _entries(self, number: int) -> list[Entry]:
        rows = self._connection.execute(select(ENTRIES).filter_by(race=number).order_by(ENTRIES.c.position)).mappings()
        return [entry_from({name: row[name] for name in row if name not in ("race", "position")}) for row in rows]

    def _seal(self, number: int) -> str:
        """16 hex digits of a hash of all of a race; of its laps' losses by their own hashes."""
        laps = self._connection.execute(select(*_LAP).filter_by(race=number).order_by(*LAPS.primary_key))
        whole = {
            **Race(**self._row(number)).content(),
            "entries": [entry_content(entry) for entry in self._entries(number)],
            "laps": [list(lap) for lap in laps],
        }
        return hashlib.sha256(canonical(whole).encode()).hexdigest()[:16]

    def _add_entries(self, number: int, entries: Iterable[Entry]) -> bool:
        known = {(entry.name, entry.adapters) for entry in self._entries(number)}
        position = self._connection.scalar(select(func.max(ENTRIES.c.position)).where(ENTRIES.c.race == number))
        start = 0 if position is None else position + 1
        new = list({(e.name, e.adapters): e for e in entries if (e.name, e.adapters) not in known}.values())
        rows = [{"race": number, "position": start + at, **entry_content(entry)} for at, entry in enumerate(new)]
        return self._insert(ENTRIES, rows)

    def _add_laps(self, number: int, laps: Iterable[Lap]) -> bool:
        columns = (LAPS.c.adapters, LAPS.c.rate, LAPS.c.seed, LAPS.c.steps)
        known = {tuple(row) for row in self._connection.execute(select(*columns).where(LAPS.c.race == number))}
        rows = [
            {"race": number, **lap.content(), "sha256": lap.sha256(), "packed": zlib.compress(lap.raw())}
            for lap in {lap.key: lap for lap in laps}.values()
            if lap.key not in known
        ]
        return self._insert(LAPS, rows)

    def _insert(self, table: Table, rows: list[dict[str, Any]]) -> bool:
        if rows:
            self._connection.execute(insert(table), rows)
        return bool(rows)
