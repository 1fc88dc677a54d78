"""Files that are one data set: a file, a glob, a folder of files, or what `datasets` saved to the disk."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plop_cli import files
from plop_cli.errors import PlopError
from plop_cli.texts.formats import FORMATS, format_of

_BESIDE = re.compile(r"(dataset_(infos?|dict)|state|metadata|config|readme|license|requirements)\b", re.IGNORECASE)
"""Files that lie beside data and are none."""

_SPLIT = re.compile(r"(?<![a-z])(train|test|valid|validation|val|dev|eval)(?:ing)?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """Files of one format on this machine. `name` is what the task is called, `note` what of it was taken."""

    name: str
    files: tuple[Path, ...]
    root: Path
    note: str = ""


def find(task: str) -> Found | None:
    """What `task` is on this machine: FILE, FOLDER, FOLDER@SPLIT or a glob; None where there is nothing of the kind.

    Raises PlopError where it is there and cannot be a data set.
    """
    path = files.expanded(task)
    if os.path.isdir(path):  # unlike pathlib's, never an error
        return _folder(path, None)
    if files.is_there(path):
        return Found(path.name, (path,), path.parent)
    folder, _, split = task.rpartition("@")
    if folder and os.path.isdir(files.expanded(folder)):
        return _folder(files.expanded(folder), split)
    if glob.has_magic(task):
        matched = tuple(Path(each) for each in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(each))
        if not matched:
            raise PlopError(f"no file matches {task!r}; check the pattern, and quote it for the shell")
        if len({format_of(each) for each in matched}) > 1:
            raise PlopError(f"{task!r} matches files of several formats; match those of one, such as '*.jsonl'")
        return Found("/".join(path.parts[-2:]), matched, Path(path.anchor or "."), f"{len(matched)} files")
    return None


def _folder(folder: Path, split: str | None) -> Found:
    name = folder.resolve().name + (f"@{split}" if split else "")
    if (folder / "dataset_dict.json").is_file():
        splits = {each: _saved(folder / each) for each in _listed(folder / "dataset_dict.json", "splits")}
    elif (folder / "state.json").is_file():
        splits = {"": _saved(folder)}
    else:
        splits = _by_split(folder, _data_files(folder))
    chosen = _choose(list(splits), split, folder)
    found = splits[chosen]
    others = [other for other in splits if other != chosen]
    said = f"split {chosen}" if chosen else "all"
    beside = f" (there are {', '.join(others)} too; name one as {folder.name}@{others[0]})" if others else ""
    count = f", {len(found)} files" if len(found) > 1 else ""
    return Found(name, tuple(found), folder, f"{said} of {folder}{count}{beside}")


def _choose(splits: Sequence[str], wanted: str | None, folder: Path) -> str:
    if wanted is not None:
        if wanted not in splits:
            known = ", ".join(filter(None, splits)) or "no splits"
            raise PlopError(f"{folder} has no split {wanted!r}; there are {known}")
        return wanted
    if len(splits) == 1 or "train" in splits:
        return "train" if "train" in splits else splits[0]
    raise PlopError(f"which split of {folder}? there are {', '.join(splits)}; name one as {folder.name}@{splits[0]}")


def _saved(folder: Path) -> list[Path]:
    """The files of a data set that `save_to_disk` wrote."""
    names = _listed(folder / "state.json", "_data_files")
    if not names or not all(isinstance(each, dict) and isinstance(each.get("filename"), str) for each in names):
        raise PlopError(f"{folder / 'state.json'} names no data files; save the data set again")
    if _listed(folder / "state.json", "_indices_data_files", optional=True):
        raise PlopError(f"{folder} keeps a selection of its rows apart; call flatten_indices() and save it again")
    found = [folder / Path(each["filename"]).name for each in names]
    for file in found:
        if not file.is_file():
            raise PlopError(f"{file} is missing, which state.json names; copy the whole folder")
    return found


def _listed(file: Path, field: str, *, optional: bool = False) -> list[Any]:
    """A list in a JSON file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8")).get(field)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise PlopError(f"{file} cannot be read ({error}); save the data set again") from error
    if not isinstance(value, list) and not (optional and value is None):
        raise PlopError(f"{file} has no list {field}; save the data set again")
    return value or []


def _data_files(folder: Path) -> list[Path]:
    """The files of the one format that the folder holds, in the order of their names."""
    there: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder).parts
        if file.is_file() and not any(part.startswith((".", "_")) for part in inside) and not _BESIDE.match(file.name):
            there.setdefault(format_of(file), []).append(file)
    there.pop("", None)
    formats = [each for each in FORMATS if each in there]
    if not formats:
        raise PlopError(f"{folder} holds no data; give a folder of {', '.join(FORMATS)} files, or one of save_to_disk")
    tables = [each for each in formats if each not in (".json", ".txt")]
    if len(tables) > 1:
        raise PlopError(f"{folder} holds {' and '.join(tables)} files; name those of one, as '{folder}/*{tables[0]}'")
    return there[formats[0]]


def _by_split(folder: Path, found: Sequence[Path]) -> dict[str, list[Path]]:
    """By the split that the path inside the folder names, as `train-00000-of-00002.parquet`; all, if none does."""
    splits: dict[str, list[Path]] = {}
    for file in found:
        if named := _SPLIT.search(str(file.relative_to(folder))):
            splits.setdefault(named[1].lower(), []).append(file)
    return splits or {"": list(found)}
