"""Folders for weights that must lie on the disk in another form than in their files. They go with the model.

The system takes its locks from a process, however that ends. So whoever loads a model next can tell a folder in use
from one that a killed process left, and removes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, what killed processes leave stays
    fcntl = None  # type: ignore[assignment]

_PREFIX = "plop-offload-"


class Scratch:
    """A new folder, in use until `remove` is called, nobody has this any more, or the process ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        while (lock := _lock(self.folder)) is None:  # somebody took it for one that was left
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._end = weakref.finalize(self, _remove, self.folder, lock)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        self._end()


def remove_left() -> None:
    """Remove the folders that processes which were killed have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if fcntl else ():
        with suppress(OSError):  # another user's
            if (lock := _lock(folder)) is not None:
                _remove(folder, lock)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock >= 0:
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that keeps the folder, -1 where there are no locks; None where another has it, or it is gone."""
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if not folder.exists():  # it was removed in between
        os.close(descriptor)
        return None
    return descriptor
