"""The races in one open transaction: they are few and small, so what is asked of them is asked in Python."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select

from plop_registry.races import Entry, Lap, Race, entry_content, entry_from
from plop_registry.schema import ENTRIES, LAPS, RACES


class RaceTables:
    """Reads and writes races, entries and laps on a connection of `Database`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def races(self, ids: Iterable[str] | None = None) -> list[Race]:
        """These races or all, newest first, whole. Raises RegistryError where a lap is damaged."""
        query = select(RACES).order_by(RACES.c.created_at.desc(), RACES.c.key.desc())
        if ids is not None:
            query = query.where(RACES.c.id.in_(list(ids)))
        rows = [dict(row) for row in self._connection.execute(query).mappings()]
        numbers = [row["number"] for row in rows]
        entries = defaultdict[int, list[Entry]](list)
        for row in self._rows_of(ENTRIES, numbers):
            entries[row.pop("race")].append(entry_from({name: row[name] for name in row if name != "position"}))
        laps = defaultdict[int, list[Lap]](list)
        for row in self._rows_of(LAPS, numbers):
            laps[row.pop("race")].append(Lap.unpack(**row))
        return [
            Race(
                **{name: value for name, value in row.items() if name not in ("number", "id")},
                entries=tuple(entries[row["number"]]),
                laps=tuple(laps[row["number"]]),
            )
            for row in rows
        ]

    def ids(self) -> list[str]:
        """Ids of all races, newest first."""
        return list(
            self._connection.scalars(select(RACES.c.id).order_by(RACES.c.created_at.desc(), RACES.c.key.desc()))
        )

    def add(self, race: Race) -> bool:
        """Store what of a race is not stored yet; whether that was anything."""
        number = self._connection.scalar(select(RACES.c.number).where(RACES.c.key == race.key))
        news = number is None
        if number is None:
            values = {name: value for name, value in race.content().items() if name != "created_at"}
            values |= {"id": race.id, "created_at": race.created_at}
            key = self._connection.execute(insert(RACES).values(values)).inserted_primary_key
            assert key is not None
            number = int(key[0])
        elif race.nfn:
            self._connection.execute(RACES.update().where(RACES.c.number == number).values(nfn=race.nfn))
        return self._add_entries(number, race.entries) | self._add_laps(number, race.laps) | news

    def remove(self, ids: Iterable[str]) -> int:
        """Delete races with all that is theirs; how many there were."""
        return self._connection.execute(delete(RACES).where(RACES.c.id.in_(list(ids)))).rowcount

    def _add_entries(self, number: int, entries: Iterable[Entry]) -> bool:
        known = {(row["name"], row["adapters"]) for row in self._rows_of(ENTRIES, [number])}
        position = self._connection.scalar(select(func.max(ENTRIES.c.position)).where(ENTRIES.c.race == number))
        start = 0 if position is None else position + 1
        new = list({(e.name, e.adapters): e for e in entries if (e.name, e.adapters) not in known}.values())
        rows = [{"race": number, "position": start + at, **entry_content(entry)} for at, entry in enumerate(new)]
        if rows:
            self._connection.execute(insert(ENTRIES), rows)
        return bool(rows)

    def _add_laps(self, number: int, laps: Iterable[Lap]) -> bool:
        columns = (LAPS.c.adapters, LAPS.c.rate, LAPS.c.seed, LAPS.c.steps)
        known = {tuple(row) for row in self._connection.execute(select(*columns).where(LAPS.c.race == number))}
        rows = [
            {"race": number, **lap.content(), "sha256": lap.sha256(), "packed": zlib.compress(lap.raw())}
            for lap in {lap.key: lap for lap in laps}.values()
            if lap.key not in known
        ]
        if rows:
            self._connection.execute(insert(LAPS), rows)
        return bool(rows)

    def _rows_of(self, table: Table, numbers: Iterable[int]) -> list[dict[str, Any]]:
        query = select(table).where(table.c.race.in_(list(numbers))).order_by(*table.primary_key)
        return [dict(row) for row in self._connection.execute(query).mappings()]
