"""The line itself, as a thread draws it: what is being done, how far, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from threading import Event, RLock, Thread
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from plop_cli.printable import printable

_EVERY = 0.1
"""Seconds from one drawing to the next, and to the first: what takes less is not worth a line."""

_UNITS = {"bytes": "GB"}
"""What is shown in another unit."""

_CLEAR = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


class Line:
    """What is said last, drawn again and again on a stream of its own; gone while others write, and once it is closed.

    It stays away from a line that others have begun: a question that waits for an answer, a table that is alive.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._frames = cycle("|/-\\" if self._console.options.ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
        self._lock, self._closed = RLock(), Event()
        self._said, self._began, self._first = ("", 0, 0, ""), 0.0, 0
        self._drawn = self._elsewhere = False
        self._thread = Thread(target=self._draw_on, daemon=True)
        self._thread.start()

    def says(self, what: str, done: int, total: int, unit: str) -> None:
        if what != self._said[0]:
            self._began, self._first = time.monotonic(), done
        self._said = what, done, total, unit

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        with self.hidden("\n"):
            pass

    @contextmanager
    def hidden(self, text: str) -> Iterator[None]:
        """Gone inside, where `text` is written by others."""
        with self._lock:
            if self._drawn:
                self._console.control(_CLEAR)
                self._drawn = False
            yield
            self._elsewhere = not text.endswith("\n")

    def _draw_on(self) -> None:
        while not self._closed.wait(_EVERY):
            with self._lock:
                if self._said[0] and not self._elsewhere:
                    self._draw()

    def _draw(self) -> None:
        text = Text(f"{next(self._frames)} {printable(self._told())}")
        text.truncate(self._console.width - 1, overflow="ellipsis")
        try:
            with self._console:
                self._console.control(_CLEAR)
                self._console.print(text, end="", no_wrap=True)
            self._drawn = True
        except OSError:  # the terminal is gone
            self._closed.set()

    def _told(self) -> str:
        what, done, total, unit = self._said
        if not total:
            return what
        told = f"{what}: {_number(done, unit)} of {_number(total, unit)} {_UNITS.get(unit, unit)}"
        if done == self._first:
            return told
        speed = (done - self._first) / max(time.monotonic() - self._began, 1e-3)
        left = (total - done) / speed
        time_left = f"{left / 60:.0f} minutes" if left > 90 else f"{left:.0f} seconds"
        return f"{told}, {_number(speed, unit)} {_UNITS.get(unit, unit)}/s, {time_left} left"


def _number(amount: float, unit: str) -> str:
    return f"{amount / 1e9:.1f}" if unit == "bytes" else f"{amount:,.0f}"
