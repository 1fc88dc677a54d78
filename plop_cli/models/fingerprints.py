"""What identifies weights on a disk: a hash of the files, computed once; and what a safetensors header tells."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from plop_cli.errors import PlopError


def hash_files(files: Iterable[Path]) -> str:
    """sha256 over names and contents; each file's own hash is remembered by path, size and time of change."""
    memory = user_cache_path("plop") / "hashes.json"
    try:
        known: dict[str, list[Any]] = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    before, whole = dict(known), hashlib.sha256()
    for file in files:
        path, stat = str(file.resolve()), file.stat()
        if known.get(path, [])[:2] != [stat.st_size, stat.st_mtime_ns]:
            with file.open("rb") as stream:
                known[path] = [stat.st_size, stat.st_mtime_ns, hashlib.file_digest(stream, "sha256").hexdigest()]
        whole.update(f"{file.name}\0{known[path][2]}\n".encode())
    if known != before:
        _remember(memory, known)
    return whole.hexdigest()


def _remember(memory: Path, known: dict[str, list[Any]]) -> None:
    """Replace the memory in one step. Where it cannot be written, the next run hashes again, and that is all."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as stream:
            json.dump(known, stream)
        os.replace(stream.name, memory)
    except OSError:
        pass


def count_elements(file: Path) -> Counter[str]:
    """Elements by dtype ("F32", "BF16", …) in a safetensors file, from its header: 8 bytes of length, then JSON.

    Raises PlopError where the file is cut short or is none.
    """
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError("the header reaches past the end")
            tensors = {name: t for name, t in json.loads(stream.read(length)).items() if name != "__metadata__"}
            if max((t["data_offsets"][1] for t in tensors.values()), default=0) > file.stat().st_size - 8 - length:
                raise ValueError("the data is cut short")
            counts: Counter[str] = Counter()
            for tensor in tensors.values():
                counts[tensor["dtype"]] += math.prod(tensor["shape"])
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlopError(f"{file} is no whole safetensors file; copy or download it again") from error
    return counts
