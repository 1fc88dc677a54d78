"""Weights that a forward will want soon: the system reads them from the disk while the layers before them compute.

ahead = Ahead(index)                     # accelerate's, of weights that lie in safetensors files
ahead.of("model.layers.3.mlp.up_proj.weight")
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

_FAR = 1 << 28
"""Bytes that are asked for ahead: a layer of some billions of parameters; what the system read stays its to drop."""

_PIECE = 1 << 20
"""Bytes of one piece of advice: of more, Linux takes only the beginning."""


class Ahead:
    """Asks the system for what follows a weight. Where it takes no advice (Windows, macOS) nothing happens."""

    def __init__(self, index: Mapping[str, Mapping[str, Any]]) -> None:
        here = [name for name, entry in index.items() if entry.get("safetensors_file")]
        self._index, self._names = index, sorted(here, key=_by_number) if hasattr(os, "posix_fadvise") else []
        self._places = {name: place for place, name in enumerate(self._names)}
        self._asked: set[str] = set()

    def of(self, name: str) -> None:
        """The weight `name` is fetched: ask for those after it, unless that was done."""
        self._asked.discard(name)  # the next forward will want it again
        far = 0
        for other in self._names[self._places.get(name, len(self._names)) + 1 :]:
            file, start, size = self._range(other)
            far += size
            if far > _FAR:
                break
            if other not in self._asked:
                self._asked.add(other)
                with suppress(OSError):  # what is wrong with the file is said by who reads it
                    _advise(file, start, size)

    def _range(self, name: str) -> tuple[str, int, int]:
        """The file, and where in it the weight begins and how long it is."""
        entry = self._index[name]
        start, size = _ranges(entry["safetensors_file"]).get(entry.get("weight_name", name), (0, 0))
        return entry["safetensors_file"], start, size


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._]", name)]


def _advise(file: str, start: int, size: int) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        for piece in range(start, start + size, _PIECE):
            os.posix_fadvise(descriptor, piece, min(_PIECE, start + size - piece), os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


@lru_cache(maxsize=256)
def _ranges(file: str) -> dict[str, tuple[int, int]]:
    """Of each tensor in a safetensors file, from its header; none where that cannot be read."""
    try:
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > os.fstat(stream.fileno()).st_size:
                return {}
            header = json.loads(stream.read(length))
        return {
            name: (8 + length + told["data_offsets"][0], told["data_offsets"][1] - told["data_offsets"][0])
            for name, told in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}
