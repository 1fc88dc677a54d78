"""Outputs replace what they may, and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from plop_cli.errors import PlopError
from plop_cli.files import check_new, write, write_all


def database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE runs (id)")
    connection.commit()
    connection.close()


def linked(path: Path, make: Callable[[Path], object]) -> None:
    make(path.with_name("target"))
    path.symlink_to("target")


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


NEVER: dict[str, tuple[Callable[[Path], object], str]] = {
    "a registry": (database, "is a database, as registries are, and never replaced"),
    "a link to a registry": (lambda path: linked(path, database), "never replaced"),
    "a hard link to a registry": (
        lambda path: (database(path.with_name("r.db")), os.link(path.with_name("r.db"), path)),
        "never replaced",
    ),
    "a copy of a registry": (
        lambda path: (database(path.with_name("r.db")), shutil.copy(path.with_name("r.db"), path)),
        "never replaced",
    ),
    "a pipe": (os.mkfifo, "is no regular file"),
    "a link to a pipe": (lambda path: linked(path, os.mkfifo), "is no regular file"),
    "a socket": (listening, "is no regular file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/null"), "is no regular file"),
    "a folder": (Path.mkdir, "is a folder; give the path of a file in it"),
    "a link to a folder": (lambda path: linked(path, Path.mkdir), "is a folder"),
    "a link that leads nowhere": (lambda path: path.symlink_to("nowhere"), "is a link that leads nowhere"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.lstat().st_mode, path.lstat().st_ino) for path in folder.iterdir()}


@pytest.mark.parametrize("what", NEVER)
def test_what_is_never_replaced(what: str, tmp_path: Path) -> None:
    make, said = NEVER[what]
    path = tmp_path / "out"
    make(path)
    before = state(tmp_path)
    for attempt in (lambda: check_new(path, force=True), lambda: write(path, b"new")):
        with pytest.raises(PlopError, match=said):
            attempt()
    assert state(tmp_path) == before


def test_what_sqlite_keeps_beside_a_registry_is_not_replaced(tmp_path: Path) -> None:
    database(tmp_path / "registry.db")
    for end in ("-wal", "-shm", "-journal"):
        path = tmp_path / f"registry.db{end}"
        path.write_bytes(b"")
        with pytest.raises(PlopError, match="never replaced"):
            check_new(path, force=True)
    (tmp_path / "notes-wal").write_text("of nothing")
    write(tmp_path / "notes-wal", b"new")


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("elsewhere/file")
    with pytest.raises(PlopError, match="exists; --overwrite replaces it"):
        check_new(link, force=False)
    check_new(link, force=True)
    write(link, b"new")
    assert (link.is_symlink(), target.read_text()) == (True, "new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640, "whoever could not read it cannot now"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("length", [255, 256, 5000])
def test_a_name_may_be_as_long_as_the_file_system_takes(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("a" * length)
    if length == 255:
        write(path, b"new")
        assert path.read_bytes() == b"new"
    else:
        for attempt in (lambda: check_new(path, force=False), lambda: write(path, b"new")):
            with pytest.raises(PlopError, match=r"cannot write a|cannot write /.*File name too long"):
                attempt()


@pytest.mark.parametrize("path", ["a\0b", "\0"])
def test_no_path_has_a_nul(path: str, tmp_path: Path) -> None:
    with pytest.raises(PlopError, match="null byte"):
        check_new(tmp_path / path, force=True)


def test_of_a_folder_of_figures_all_are_written_or_none(tmp_path: Path) -> None:
    write_all(tmp_path / "figures", [("b.svg", b"old")], force=False)
    with pytest.raises(PlopError, match=r"b\.svg exists"):
        write_all(tmp_path / "figures", [("a.svg", b"new"), ("b.svg", b"new")], force=False)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["b.svg"]
    write_all(tmp_path / "figures", [("a.svg", b"new"), ("b.svg", b"new")], force=True)
    assert {path.read_bytes() for path in (tmp_path / "figures").iterdir()} == {b"new"}
