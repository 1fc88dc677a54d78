"""Words for lists and numbers."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """The names as "a, b and c"; of more than six, the first five and how many more there are."""
    shown = list(names) if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def counted(number: int, what: str) -> str:
    """A number of things: "1 run", "2,000 runs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
