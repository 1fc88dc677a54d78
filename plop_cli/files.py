"""Paths as users give them, and files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plop_cli.errors import PlopError


def expanded(path: str) -> Path:
    """The path with `~` put out. Raises PlopError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise PlopError(f"{path} cannot be found ({str(error).rstrip('.')}); give the whole path") from error


def is_there(path: Path) -> bool:
    """Whether there is something at `path`, whatever its kind; never an error."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, a folder that may not be read
        return False


def check_new(path: Path, *, force: bool) -> None:
    """Raise PlopError where `path` cannot become a file: before the work, not after it."""
    if path.exists() and not force:
        raise PlopError(f"{path} exists; --force overwrites it")
    if not path.parent.is_dir():
        raise PlopError(f"there is no folder {path.parent}; make it first")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path` to write, put in its place in one step: whoever looks sees the old or the new.

    Raises PlopError where that cannot be done; then `path` is as it was, as it is after any other error.
    """
    draft = path.parent / f".{path.name}.{os.getpid()}"
    try:
        if path.exists() and not os.access(path, os.W_OK):  # replacing it would not ask
            raise PermissionError(None, "Permission denied")
        yield draft
        draft.replace(path)
    except OSError as error:
        remedy = "give a path that can be written" if path.parent.is_dir() else f"make the folder {path.parent} first"
        raise PlopError(f"cannot write {path} ({error.strerror or error}); {remedy}") from error
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all (`replacing`)."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_all(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files, by name, into a folder, which is made where there is none."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PlopError(f"{folder} cannot be a folder ({error.strerror}); give another path") from error
    for name, content in files:
        write(folder / name, content)
