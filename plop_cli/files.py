"""Paths as users give them, and files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plop_cli.errors import PlopError

_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and needs to read it."""


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
    """Raise PlopError where `path` cannot become a file: before the work, not after it.

    With `force` a regular file gives way, and what a link leads to; a registry, a folder or a device never does.
    """
    with _said(path):
        target = _target(path)
        if not os.path.isdir(target.parent):
            raise PlopError(f"there is no folder {path.parent}; make it first")
        if target.exists() and not force:
            raise PlopError(f"{path} exists; --overwrite replaces it")
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(None, f"Permission denied: {target.parent}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft to write, put in the place of `path` in one step: whoever looks sees the old or the new.

    A link stays one, and what it leads to is replaced. Raises PlopError where that cannot be done, as `check_new` does;
    then `path` is as it was, as it is after any other error.
    """
    with _said(path):
        target = _target(path)
        draft = target.with_name(f".plop-{secrets.token_hex(4)}")  # short: the name itself may be as long as can be
        there = target.exists()
        if there and not os.access(target, os.W_OK):  # replacing it would not ask
            raise PermissionError(None, "Permission denied")
        try:
            yield draft
            if there:
                shutil.copymode(target, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all (`replacing`)."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_all(folder: Path, files: Iterable[tuple[str, bytes]], *, force: bool) -> None:
    """Write files, by name, into a folder, which is made where there is none; none of them where one may not be."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PlopError(f"{folder} cannot be a folder ({error.strerror}); give another path") from error
    made = list(files)
    for name, _ in made:
        check_new(folder / name, force=force)
    for name, content in made:
        write(folder / name, content)


def _target(path: Path) -> Path:
    """The file that a write to `path` replaces: itself, or what it leads to. PlopError where that must not be."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise PlopError(f"{path} is a link that leads nowhere; remove it, or give another path") from None
        return path
    if stat.S_ISDIR(mode):
        raise PlopError(f"{path} is a folder; give the path of a file in it")
    if not stat.S_ISREG(mode):
        raise PlopError(f"{path} is no regular file, but a device, a pipe or a socket; give the path of a file")
    if _is_database(path):
        raise PlopError(f"{path} is a database, as registries are, and never replaced; give another path")
    return path.resolve() if path.is_symlink() else path


def _is_database(path: Path) -> bool:
    name = str(path)
    beside = [Path(name.removesuffix(end)) for end in _BESIDE if name.endswith(end)]
    for file in (path, *beside):
        if file.is_file():
            with file.open("rb") as stream:
                if stream.read(len(_SQLITE)) == _SQLITE:
                    return True
    return False


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """What the system refuses, as PlopError."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        if isinstance(error, ValueError) and "\0" not in str(path):
            raise
        folder = os.path.isdir(path.parent)
        remedy = "give a path that can be written" if folder else f"make the folder {path.parent} first"
        reason = getattr(error, "strerror", None) or error
        raise PlopError(f"cannot write {path} ({reason}); {remedy}") from error
