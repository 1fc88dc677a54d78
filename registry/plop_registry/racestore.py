"""The races of a registry.

with Registry() as registry:
    registry.races.add(race)                # what of it is not stored yet
    registry.races.get("3f2a").entries
"""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError
from plop_registry.races import Lap, Race, entry_content, entry_from
from plop_registry.references import damaged
from plop_registry.runs import canonical
from plop_registry.transfer import from_line as run_from_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from plop_registry.racetables import RaceTables
    from plop_registry.writer import Writer

_log = logging.getLogger("plop_registry")

FORMAT = 1
_MARK = '"race_id":'


class Races:
    """What of `Registry` is about races. Every method raises RegistryError for what a user can mend.

    As with runs, what is read is verified, and a damaged race is left out and named in a warning.
    """

    def __init__(self, connected: Callable[[bool], AbstractContextManager[Connection | None]]) -> None:
        self._connected = connected
        self._named: set[str] = set()

    def add(self, race: Race) -> bool:
        """Store what of a race is not stored yet, in one transaction: entries, laps, itself; whether that was any."""
        with self._writing() as tables:
            return tables.add(race)

    def find(self, key: str) -> Race | None:
        """The race with this key (`race_key`), whole; None where there is none that is sound."""
        with self._reading() as tables:
            found = tables.races([key[:16]]) if tables else []
        return next((race for race in found if race.key == key), None)

    def all(
        self,
        *,
        model: str | None = None,
        task: str | None = None,
        revision: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        name: str | None = None,
        note: str | None = None,
        limit: int | None = None,
    ) -> list[Race]:
        """Races, newest first, whole. Arguments as for `Registry.runs`; `task` is a glob on the examples' name, `type`
        on the types of a contestant. Races have neither name nor note."""
        with self._reading() as tables:
            races = tables.races() if tables else []
        fitting = [
            race
            for race in races
            if (model is None or fnmatchcase(race.model_id, model))
            and (task is None or fnmatchcase(race.data_id, task))
            and (revision is None or any(fnmatchcase(r, revision) for r in (race.model_label, race.model_revision)))
            and (type is None or any(fnmatchcase(kind, type) for entry in race.entries for kind in entry.types))
            and (since is None or since <= race.created_at)
            and (until is None or race.created_at <= until)
            and all(called is None or fnmatchcase("", called) for called in (name, note))
        ]
        return fitting[:limit]

    def meant_by(self, reference: str) -> list[str]:
        """Ids of the races that an id, or its first 4 or more digits, means."""
        with self._reading() as tables:
            ids = tables.ids() if tables else []
        return [each for each in ids if len(reference) > 3 and each.startswith(reference.lower())]

    def resolve(self, reference: str) -> str:
        """The id of the one race that `reference` means, damaged or not; RegistryError where there is not just one."""
        found = self.meant_by(reference)
        if len(found) != 1:
            count = f"fits {len(found)} races; give more digits" if found else "is no race (plop history --kind race)"
            raise RegistryError(f"{reference!r} {count}")
        return found[0]

    def get(self, reference: str) -> Race:
        """The race that `reference`, an id or its first digits, means; RegistryError where not just one, or damaged."""
        race_id = self.resolve(reference)
        with self._reading() as tables:
            found = tables.races([race_id]) if tables else []
        if not found:
            raise RegistryError(damaged([race_id], "race"))
        return found[0]

    def remove(self, ids: Iterable[str]) -> int:
        """Delete races by their whole ids; how many there were."""
        with self._writing() as tables:
            return tables.remove(ids)

    @contextmanager
    def _reading(self) -> Iterator[RaceTables | None]:
        with self._connected(False) as connection:
            if connection is None:
                yield None
            else:
                from plop_registry.racetables import RaceTables

                yield (tables := RaceTables(connection))
                found = [each for each in tables.damaged if each not in self._named]
                if found:
                    self._named.update(found)
                    _log.warning(damaged(found, "race"))

    @contextmanager
    def _writing(self) -> Iterator[RaceTables]:
        with self._connected(True) as connection:
            from plop_registry.racetables import RaceTables

            assert connection is not None
            yield RaceTables(connection)


def add_line(writer: Writer, line: str) -> bool:
    """Store what of an exported run or race is not stored yet; whether that was anything."""
    if _MARK not in line:
        return writer.add(*run_from_line(line))
    from plop_registry.racetables import RaceTables

    return RaceTables(writer.connection).add(from_line(line))


def to_line(race: Race) -> str:
    """A race as one line of text, to travel between registries."""
    laps = [
        {
            **lap.content(),
            "sha256": lap.sha256(),
            "packed": base64.b64encode(zlib.compress(lap.raw())).decode("ascii"),
        }
        for lap in race.laps
    ]
    entries = [entry_content(entry) for entry in race.entries]
    return canonical({"format": FORMAT, "race_id": race.id, **race.content(), "entries": entries, "laps": laps})


def from_line(line: str) -> Race:
    """The race of a line; RegistryError saying what is wrong with a damaged one.

    The line is checked from the outside in: types and ranges, then the laps, then each part against the others.
    """
    from plop_registry.racewire import read

    content = read(line)
    race_id = content.pop("race_id")
    try:
        laps = [
            Lap.unpack(**lap | {"packed": base64.b64decode(lap["packed"], validate=True)}) for lap in content["laps"]
        ]
        race = Race(
            **content
            | {
                "created_at": datetime.fromisoformat(content["created_at"]),
                "entries": tuple(map(entry_from, content["entries"])),
                "laps": tuple(laps),
            }
        )
    except (ArithmeticError, ValueError) as error:
        raise RegistryError("not an exported race") from error
    if race.id != race_id:
        raise RegistryError("the id does not match the content")
    for problem in race.problems():
        raise RegistryError(f"the race contradicts itself: {problem}")
    return race
