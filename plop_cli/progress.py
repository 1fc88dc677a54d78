"""What is being done, told to whoever shows it: in a command the line on stderr, in a notebook its
bar, elsewhere nobody.

says("hashing model.safetensors", 1 << 20, 1 << 30, "bytes")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[str, int, int, str], None]
"""Called with what is being done, how much of it is done, of how much, and of what ("tokens", "bytes")."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def says(what: str, done: int = 0, total: int = 0, unit: str = "") -> None:
    """Tell what is being done from now on, and how far that is; no `total` where it is not known."""
    if watcher := _watcher.get():
        watcher(what, done, total, unit)


def is_watched() -> bool:
    """Whether somebody is told."""
    return _watcher.get() is not None


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside, `watcher` is told."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)
