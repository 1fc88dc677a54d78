"""Main memory: how much is free, and what glibc's malloc does with what was freed (elsewhere nothing is done).

A forward pass allocates and frees the same megabytes again and again. By default glibc gives them back to the system
each time, and fresh pages cost up to a quarter of the pass.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20
"""Bytes: the most that glibc lets a block have that it may keep."""


def keep_freed() -> None:
    """Keep freed memory in this process for the next allocation. For commands: a library has no business here."""
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def trim() -> None:
    """Give all freed memory back now."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def available_memory() -> int:
    """Bytes this process may still take: what the machine has free, or its control group leaves it."""
    import psutil

    free: int = psutil.virtual_memory().available
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{what}").read_text()) for what in ("max", "current"))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return free
    return min(free, limit - used)
