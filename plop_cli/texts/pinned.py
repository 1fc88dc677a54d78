"""Rows of a data set on the hub at one commit, of which those that were drawn before are remembered.

    rows = Pinned(lambda: InMemory(datasets.load_dataset(...)), "org/name", "main", "train", commit)
    rows.drawn(seed=0, wanted=100)           # loads nothing where as many were drawn before

What is at a commit never changes. So a draw that was made before needs neither the `datasets` library nor a download.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from plop_cli.errors import PlopError
from plop_cli.files import write
from plop_cli.texts.rows import Row, Rows

_LARGEST = 1 << 24
"""Characters of what is remembered of one draw; more is drawn again."""
_KEPT = 100
"""Files of draws; the oldest go."""
_FORM = 1
"""Goes up where `Rows` draws another order, or rows are remembered in another form."""


class Pinned(Rows):
    """Args: `load`, which gives all rows; `what`, all that tells them from others, the commit included."""

    def __init__(self, load: Callable[[], Rows], *what: str | None) -> None:
        self._load, self._what = load, what

    @cached_property
    def _rows(self) -> Rows:
        return self._load()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        return self._rows.take(indices, columns)

    @cached_property
    def _head(self) -> list[Row]:
        known: list[Row] | None = self._remembered("head")
        if known is None:
            known = self._rows.head()
            self._remember(known, "head")
        return known

    def head(self) -> list[Row]:
        return self._head

    def drawn(
        self, *, seed: int, wanted: int, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Row | PlopError]]:
        draw = ("drawn", seed, list(columns or ()))
        given: list[list[Any]] = self._remembered(*draw) or []
        before, sound = len(given), True
        yield from ((index, row) for index, row in given)
        try:
            for index, row in islice(self._rows.drawn(seed=seed, wanted=wanted, columns=columns), before, None):
                sound = sound and not isinstance(row, PlopError)  # a row that cannot be read is tried each time
                if sound:
                    given.append([index, row])
                yield index, row
        finally:
            if len(given) > before:
                self._remember(given, *draw)

    def _file(self, *part: Any) -> Path:
        name = hashlib.sha256(json.dumps([_FORM, *self._what, *part]).encode()).hexdigest()
        return user_cache_path("plop") / "rows" / f"{name}.json"

    def _remembered(self, *part: Any) -> Any:
        with suppress(OSError, ValueError, RecursionError):
            return json.loads(self._file(*part).read_bytes())
        return None

    def _remember(self, rows: list[Any], *part: Any) -> None:
        """Where they cannot be written, or JSON is not the same (pictures, dates), they are drawn again next time."""
        with suppress(OSError, PlopError, TypeError, ValueError, RecursionError):
            content, file = json.dumps(rows), self._file(*part)
            if len(content) <= _LARGEST and json.loads(content) == rows:
                file.parent.mkdir(parents=True, exist_ok=True)
                write(file, content.encode())
                for old in sorted(file.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
                    old.unlink(missing_ok=True)
