"""What identifies weights on a disk: a hash of the files, computed once; and what a safetensors header tells."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from plop_cli.errors import PlopError


def hash_files(files: Iterable[Path], root: Path) -> str:
    """sha256 over names, as seen from `root`, and contents.

    Each file's own hash is remembered by path, and computed anew where its size, its inode or a time of change is not
    what it was.
    """
    memory = user_cache_path("plop") / "stamps.json"  # not hashes.json, which older versions would misread
    known = _remembered(memory)
    before, whole = dict(known), hashlib.sha256()
    for file in files:
        path, stat = str(file.resolve()), file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        if known.get(path, [])[:-1] != stamp:
            with file.open("rb") as stream:
                known[path] = [*stamp, hashlib.file_digest(stream, "sha256").hexdigest()]
        whole.update(f"{file.relative_to(root).as_posix()}\0{known[path][-1]}\n".encode())
    if known != before:
        _remember(memory, known)
    return whole.hexdigest()


def _remembered(memory: Path) -> dict[str, list[Any]]:
    """What was hashed before; empty where nothing of it can be read."""
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {path: entry for path, entry in known.items() if isinstance(entry, list)} if isinstance(known, dict) else {}


def _remember(memory: Path, known: dict[str, list[Any]]) -> None:
    """Replace the memory in one step. Where it cannot be written, the next run hashes again, and that is all."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as stream:
            json.dump(known, stream)
        os.replace(stream.name, memory)
    except OSError:
        pass


def count_elements(file: Path) -> tuple[Counter[str], int]:
    """Elements by dtype ("F32", "BF16", …) in a safetensors file, and how many tensors they are in, from its header.

    Raises PlopError where the file is cut short or is none.
    """
    from safetensors import SafetensorError, safe_open  # brings no torch

    counts: Counter[str] = Counter()
    file.open("rb").close()  # safetensors says of whatever it cannot open that it is not there
    try:
        with safe_open(file, framework="numpy") as tensors:
            names = tensors.keys()
            for name in names:
                tensor = tensors.get_slice(name)
                counts[tensor.get_dtype()] += math.prod(tensor.get_shape())
    except SafetensorError as error:
        raise PlopError(f"{file} is no whole safetensors file; copy or download it again") from error
    return counts, len(names)
