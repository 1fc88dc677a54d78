"""What the registry keeps of races: plain, frozen values. A race is one model on one set of examples.

    race = Race(key=race_key(...), entries=(Entry(...),), laps=(Lap(...),), ...)
    race.laps_of(race.entries[0])      # its trainings
    race.to_dict()                     # the JSON of `plop race --json`, without the verdicts

Unlike a run, a race grows: by a seed more, or a contestant more. So its id is a hash of what is raced on, not of what
came out, and a race that is stored twice is stored once, with the entries and laps of both.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from plop_registry.errors import RegistryError
from plop_registry.runs import canonical
from plop_registry.shown import Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Losses = NDArray[np.float32]

_HEADER = struct.Struct("<8sIII")  # magic, steps, validation examples, test examples
_MAGIC = b"ploplap1"
_ARRAYS = ("train", "validation", "test")
_LARGEST = 1 << 28
"""Bytes of losses that a lap has at most: no more is unpacked, whatever its header says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant: its name, and the adapters it trains, which `adapters` is a hash of.

    `config` is what PEFT's LoraConfig is called with. Entries with the same adapters share their laps.
    """

    name: str
    adapters: str
    types: tuple[str, ...]
    modules: int
    rank: int
    alpha: int
    parameters: int
    config: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Lap:
    """One training: `train` float32 (steps,), the loss of each step; `validation` and `test` float32 (examples,).

    A loss is the mean over the tokens that count, in nats; an example's in `test` stands where it stands in every lap
    of the race. A lap that was not measured on an array's examples has it empty. `seconds` is what it took.
    """

    adapters: str
    rate: float
    seed: int
    steps: int
    seconds: float
    train: Losses
    validation: Losses
    test: Losses

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, getattr(self, name).astype("<f4", copy=False))

    @property
    def key(self) -> tuple[str, float, int, int]:
        """What it is known by within its race."""
        return self.adapters, self.rate, self.seed, self.steps

    @property
    def diverged(self) -> bool:
        """Whether a loss stopped being a number: such a lap says that its rate is too high, and nothing else."""
        import numpy as np

        return not all(bool(np.isfinite(getattr(self, name)).all()) for name in _ARRAYS)

    def raw(self) -> bytes:
        """Header and arrays, little-endian."""
        arrays = [getattr(self, name) for name in _ARRAYS]
        return _HEADER.pack(_MAGIC, *map(len, arrays)) + b"".join(array.tobytes() for array in arrays)

    def sha256(self) -> str:
        """Hash of all losses, and of what they are the losses of."""
        return hashlib.sha256(canonical(list(self.key)).encode() + self.raw()).hexdigest()

    def content(self) -> dict[str, Any]:
        """All but the losses."""
        return {name: getattr(self, name) for name in ("adapters", "rate", "seed", "steps", "seconds")}

    @classmethod
    def unpack(cls, packed: bytes, sha256: str, **content: Any) -> Lap:
        """The lap whose `raw`, compressed by zlib, is `packed`; RegistryError where it is not what was stored.

        No more is unpacked than the header says.
        """
        import numpy as np

        stream = zlib.decompressobj()
        try:
            head = stream.decompress(packed, _HEADER.size)
            magic, *lengths = _HEADER.unpack(head)
            size = 4 * sum(lengths)
            if magic != _MAGIC or size > _LARGEST:
                raise RegistryError("a lap is damaged (its header does not fit)")
            raw = head + stream.decompress(stream.unconsumed_tail, size + 1)
        except (zlib.error, struct.error) as error:
            raise RegistryError(f"a lap is damaged ({error})") from error
        if len(raw) != _HEADER.size + size or not stream.eof or stream.unused_data:
            raise RegistryError("a lap is damaged (its size does not fit its header)")
        arrays, offset = list[Any](), _HEADER.size
        for length in lengths:
            arrays.append(np.frombuffer(raw, "<f4", length, offset))
            offset += 4 * length
        train, validation, test = arrays
        lap = cls(**content, train=train, validation=validation, test=test)
        if lap.sha256() != sha256:
            raise RegistryError("a lap is damaged (its hash has changed)")
        return lap


@dataclass(frozen=True, slots=True, kw_only=True)
class Race(Shown):
    """One model on one set of examples, the contestants, and their laps.

    `train`, `validation` and `test` count examples; `data_hash` pins their tokens; `nfn` is the NFN of each type, where
    the model was scored. `settings` are those that can change a digit. `created_at` is aware.
    """

    key: str
    created_at: datetime
    model_id: str
    model_revision: str
    model_label: str = ""
    architecture: str
    dtype: str
    data_id: str
    data_hash: str
    train: int
    validation: int
    test: int
    settings: dict[str, Any] = field(default_factory=dict)
    nfn: dict[str, float] = field(default_factory=dict)
    plop_version: str
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    entries: tuple[Entry, ...] = ()
    laps: tuple[Lap, ...] = ()

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must be an aware datetime")

    @property
    def id(self) -> str:
        """16 hex digits."""
        return self.key[:16]

    def laps_of(self, entry: Entry) -> list[Lap]:
        """The trainings of a contestant."""
        return [lap for lap in self.laps if lap.adapters == entry.adapters]

    def problems(self) -> Iterator[str]:
        """What of the race contradicts the rest of it."""
        key = race_key(model_revision=self.model_revision, data_hash=self.data_hash, settings=self.settings)
        if key != self.key:
            yield "its content does not match its key"
        if type(steps := self.settings.get("steps")) is not int or steps < 1:
            yield "it does not say of how many steps a lap is"
        if not self.entries:
            yield "it has no contestants"
        for lap in self.laps:
            lengths = [len(getattr(lap, name)) for name in _ARRAYS]
            fit = (lengths[0] == lap.steps, lengths[1] in (0, self.validation), lengths[2] in (0, self.test))
            if not all(fit):
                yield f"the lap of {lap.adapters}, rate {lap.rate:g}, seed {lap.seed} has losses of other examples"

    def content(self) -> dict[str, Any]:
        """The race without entries and laps."""
        own = {name: getattr(self, name) for name in self.__slots__ if name not in ("entries", "laps")}
        return {**own, "created_at": self.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; a loss that is no number is None."""
        return {
            "race_id": self.id,
            **self.content(),
            "entries": [entry_content(entry) for entry in self.entries],
            "laps": [
                {**lap.content(), "diverged": lap.diverged, **{name: _numbers(getattr(lap, name)) for name in _ARRAYS}}
                for lap in self.laps
            ],
        }


def entry_content(entry: Entry) -> dict[str, Any]:
    """An entry's JSON form."""
    return {name: getattr(entry, name) for name in entry.__slots__} | {"types": list(entry.types)}


def entry_from(content: Mapping[str, Any]) -> Entry:
    """The entry of a JSON form."""
    return Entry(**{**content, "types": tuple(content["types"])})


def race_key(*, model_revision: str, data_hash: str, settings: Mapping[str, Any]) -> str:
    """What two races share exactly when a lap of one is a lap of the other (sha256, hex)."""
    ingredients = {"model_revision": model_revision, "data_hash": data_hash, "settings": dict(settings)}
    return hashlib.sha256(canonical(ingredients).encode()).hexdigest()


def _numbers(losses: Losses) -> list[float | None]:
    import numpy as np

    return [float(loss) if np.isfinite(loss) else None for loss in losses]
