"""Rows, any of which can be taken without holding the others in memory, and the order in which they are drawn.

rows.take([7, 3])                   # a row, or why it is none, for each index
next(rows.drawn(seed=0, wanted=8))  # (index, row)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np

from plop_cli.errors import PlopError

Row = Mapping[str, Any]

HEAD = 1000
"""Rows that are looked at to tell which columns there are and what they hold."""

WHOLE = 1 << 24
"""Rows of which a whole permutation is made. Of more, the first entries of one are drawn as they are needed."""

_TOGETHER = 4096
"""Rows that are taken at once where all are wanted."""


class Rows:
    """Rows of one source. `typed` is False where every value is a string, as in CSV."""

    typed = True

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        """The rows at `indices`, in that order; where `columns` are given, at least those. Of a row that cannot be
        read there is the error instead."""
        raise NotImplementedError

    def head(self) -> list[Row]:
        """The first rows that can be read; raises their error where none can."""
        found = self.take(range(min(len(self), HEAD)))
        rows = [row for row in found if not isinstance(row, PlopError)]
        if not rows and found:
            raise next(row for row in found if isinstance(row, PlopError))
        return rows

    def drawn(
        self, *, seed: int, wanted: int, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Row | PlopError]]:
        """All rows with their indices, in a seeded order without replacement; `wanted` of them are read at first."""
        order, size = _order(len(self), seed), min(wanted, _TOGETHER)
        while indices := list(islice(order, size)):
            yield from zip(indices, self.take(indices, columns), strict=True)
            size = min(2 * size, _TOGETHER)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _TOGETHER):
            for row in self.take(range(start, min(start + _TOGETHER, len(self)))):
                if isinstance(row, PlopError):
                    raise row
                yield row


def _order(number: int, seed: int) -> Iterator[int]:
    """A permutation of range(number): the same on every machine."""
    generator = np.random.default_rng(seed)
    if number <= WHOLE:
        order = generator.permutation(number)
        for start in range(0, number, _TOGETHER):
            yield from order[start : start + _TOGETHER].tolist()
        return
    moved: dict[int, int] = {}  # Fisher and Yates, of which only the entries that were moved are kept
    for index in range(number):
        other = int(generator.integers(index, number))
        yield moved.get(other, other)
        moved[other] = moved.get(index, index)


class InMemory(Rows):
    """Rows that are there already: a list, or a data set of the hub."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        return [self._rows[index] for index in indices]


class Joined(Rows):
    """The rows of several sources, one after the other."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(map(len, parts))]
        self.typed = all(part.typed for part in parts)

    def __len__(self) -> int:
        return self._starts[-1]

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        wanted: dict[int, list[int]] = {}
        for index in indices:
            wanted.setdefault(bisect_right(self._starts, index) - 1, []).append(index)
        found: dict[int, Row | PlopError] = {}
        for part, among in sorted(wanted.items()):
            inside = [index - self._starts[part] for index in among]
            found.update(zip(among, self._parts[part].take(inside, columns), strict=True))
        return [found[index] for index in indices]


class Streamed(Rows):
    """Rows of a data set that is too large to be fetched, as an iterable for each of its files.

    The files are visited round after round in a drawn order; each visit reads the next BLOCK rows and draws SHARE of
    them. So the draw is seeded, and a larger one begins with the smaller one, but not every row can be drawn.
    """

    BLOCK, SHARE = 1000, 32

    def __init__(self, shards: Sequence[Iterable[Row]]) -> None:
        self._shards = shards
        self._head = list(islice((row for shard in shards for row in shard), HEAD))

    def __len__(self) -> int:
        """Whether there are rows is known, how many is not."""
        return len(self._head)

    def head(self) -> list[Row]:
        return self._head

    def drawn(
        self, *, seed: int, wanted: int, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Row | PlopError]]:
        generator = np.random.default_rng(seed)
        waiting = [iter(self._shards[index]) for index in generator.permutation(len(self._shards))]
        number = 0
        while waiting:
            for shard in list(waiting):
                if not (block := list(islice(shard, self.BLOCK))):
                    waiting.remove(shard)
                for index in generator.permutation(len(block))[: self.SHARE].tolist():
                    yield number, block[index]
                    number += 1
