"""What identifies weights on a disk: a hash of the files, computed once; and what a safetensors header tells."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from blake3 import blake3
from platformdirs import user_cache_path

from plop_cli.errors import PlopError
from plop_cli.progress import says

SUFFIX = "-b3"
"""What a revision by BLAKE3 ends in, so that it is told from one by SHA-256, as plop made them before, and a commit."""

_BLOCK = 1 << 20  # read and hashed while it is in a core's cache

Stamp = list[int]
"""Size, times of change and inode of a file: another one, and it may hold something else."""


class _Way(NamedTuple):
    """How files are hashed, and where that is remembered: one file for both would be misread."""

    memory: str
    new: Callable[[], Any]
    suffix: str
    part: int | None
    """Bytes that are hashed by themselves; None: a file is hashed as a whole."""


_BLAKE3 = _Way("parts.json", blake3, SUFFIX, part=1 << 26)
_SHA256 = _Way("stamps.json", hashlib.sha256, "", part=None)  # not hashes.json, which the first versions would misread

_way = ContextVar("way", default=_BLAKE3)


@contextmanager
def formerly() -> Iterator[None]:
    """Inside, revisions are what they were called before BLAKE3 came."""
    before = _way.set(_SHA256)
    try:
        yield
    finally:
        _way.reset(before)


def hash_text(text: str) -> str:
    """A revision made of others."""
    way = _way.get()
    digest = way.new()
    digest.update(text.encode())
    return f"{digest.hexdigest()}{way.suffix}"


def hash_files(files: Iterable[Path], root: Path) -> str:
    """The revision of files: a hash over their names, as seen from `root`, and contents.

    Each file's own hash is remembered by path, and computed anew where its stamp is not what it was. All cores hash,
    several files at once. Raises PlopError where a file is changed meanwhile.
    """
    way = _way.get()
    memory = user_cache_path("plop") / way.memory
    known = _remembered(memory)
    stamps = {file: stamp_of(file) for file in files}
    paths = {file: str(file.resolve()) for file in stamps}
    new = [file for file, path in paths.items() if known.get(path, [])[:-1] != stamps[file]]
    if new:
        hashes = zip(new, _hashed(new, [stamps[file][0] for file in new], way), strict=True)
        check_unchanged({file: stamps[file] for file in new})
        known |= {paths[file]: [*stamps[file], digest] for file, digest in hashes}
        _remember(memory, known)
    return hash_text("".join(f"{file.relative_to(root).as_posix()}\0{known[paths[file]][-1]}\n" for file in stamps))


def stamp_of(file: Path) -> Stamp:
    """What changes when a file does."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def check_unchanged(stamps: Mapping[Path, Stamp]) -> None:
    """Raise PlopError where a file no longer has its stamp."""
    for file, stamp in stamps.items():
        if not file.exists() or stamp_of(file) != stamp:
            raise PlopError(f"{file} was changed while it was read; run this again once it is written")


def _hashed(files: Sequence[Path], sizes: Sequence[int], way: _Way) -> list[str]:
    """The hash of each file's content: of the hashes of its parts where it has several, which all cores take in turn.

    A file that vanishes or is cut short meanwhile is no crash, as it were in a memory map; its stamp tells.
    """
    parts = [range(0, max(size, 1), way.part or max(size, 1)) for size in sizes]
    done, stopped = [0] * len(files), Event()

    def hashed(number: int, start: int) -> Any:
        digest, left = way.new(), parts[number].step
        block = memoryview(bytearray(min(_BLOCK, left)))
        with suppress(FileNotFoundError), files[number].open("rb", buffering=0) as stream:
            stream.seek(start)
            while left and not stopped.is_set() and (read := stream.readinto(block[:left])):
                digest.update(block[:read])
                left -= read
                done[number] += read  # of threads at once: what is lost is a moment's progress
        return digest

    what = files[0].name if len(files) == 1 else files[0].parent.name
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [[pool.submit(hashed, number, start) for start in starts] for number, starts in enumerate(parts)]
        try:
            while wait(chain(*running), timeout=0.1).not_done:
                says(f"hashing {what}", sum(done), sum(sizes), "bytes")
        finally:
            stopped.set()  # where Ctrl-C ended the waiting
    return [_joined([each.result() for each in of_file], way) for of_file in running]


def _joined(digests: Sequence[Any], way: _Way) -> str:
    if len(digests) == 1:
        return str(digests[0].hexdigest())
    whole = way.new()
    whole.update(b"".join(digest.digest() for digest in digests))
    return str(whole.hexdigest())


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
