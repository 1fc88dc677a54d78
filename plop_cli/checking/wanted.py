"""What a trainer's config asks for, in PEFT's terms, whichever trainer it is for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from plop_cli.errors import PlopError, nearest
from plop_cli.placement.targets import Targets

ALL = "all-linear"
"""All linear modules, as each trainer takes that."""

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know. An error fails or adapts nothing, a warning is likely not meant, a note is so by design.

    `code` names its kind: "dead-name", "uneven", "frozen-experts" and so on.
    """

    level: Level
    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A config as read: PEFT's words for what it says, None or empty where it says nothing.

    `format` is the trainer, or "targets" for a choice by hand; `base` the model that the config names. `findings` are
    what can be said without a model, `keys` what the config holds, for it to be written again.
    """

    source: str
    format: str
    targets: Targets
    parameters: tuple[str, ...] = ()
    rank: int = 8
    alpha: float | None = None
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0
    task_type: str | None = None
    modules_to_save: tuple[str, ...] = ()
    exclude: Targets = ()
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    base: str | None = None
    findings: tuple[Finding, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)


class Values:
    """The keys of a config, asked for by type. PlopError, naming file and key, where one has another type."""

    def __init__(self, source: str, values: Mapping[str, Any]) -> None:
        self._source, self.all = source, values

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value; `default` where it is missing or null."""
        value = self.all.get(key)
        if value is None:
            return default
        if isinstance(value, bool) and kind is not bool and bool not in (kind if isinstance(kind, tuple) else (kind,)):
            raise self._wrong(key, value)
        if not isinstance(value, kind):
            raise self._wrong(key, value)
        return value

    def targets(self, key: str) -> Targets:
        """A list of names, or a string as it is; an empty list where there is nothing."""
        value = self.get(key, (str, list, tuple, set), ())
        return value if isinstance(value, str) else self.names(key)

    def names(self, key: str) -> tuple[str, ...]:
        """A list of names; a single string is a list of one."""
        value = self.get(key, (str, list, tuple, set), ())
        names = [value] if isinstance(value, str) else sorted(value) if isinstance(value, set) else list(value)
        if not all(isinstance(name, str) for name in names):
            raise self._wrong(key, value)
        return tuple(names)

    def whole(self, key: str, default: int) -> int:
        """A rank, at least 1."""
        value = self.get(key, (int, float, str), default)
        try:
            number = int(value)
        except ValueError:
            raise self._wrong(key, value) from None
        if number < 1 or number != float(value):
            raise PlopError(f"{self._source}: {key} is {value}; give a whole number of at least 1")
        return number

    def number(self, key: str, default: float | None = None) -> float | None:
        """A number, also one that is written as text."""
        value = self.get(key, (int, float, str), default)
        try:
            return None if value is None else float(value)
        except ValueError:
            raise self._wrong(key, value) from None

    def flag(self, key: str) -> bool:
        """True or false, also as text; false where it is missing."""
        value = self.get(key, (bool, str), False)
        return value if isinstance(value, bool) else value.lower() in ("true", "1", "yes", "")

    def strangers(self, known: Collection[str], trainer: str, level: Level = "warning") -> tuple[Finding, ...]:
        """A finding for each key that is nearly one of the `known` and none of them."""
        found = []
        for key in self.all:
            if key not in known and (near := [name for name in nearest(key, sorted(known)) if _alike(key, name)]):
                text = f"{key} is no key of {trainer}, which does not read it; did you mean {near[0]}?"
                found.append(Finding(level, "unknown-key", text))
        return tuple(found)

    def _wrong(self, key: str, value: object) -> PlopError:
        return PlopError(f"{self._source}: {key} is {str(value)[:60]!r}, which it cannot be; see the trainer's manual")


def _alike(key: str, name: str) -> bool:
    """Whether one is likely a slip of the pen for the other: at most two letters more or less."""
    import difflib

    return abs(len(key) - len(name)) <= 2 and difflib.SequenceMatcher(None, key, name).ratio() > 0.85
