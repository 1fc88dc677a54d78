"""Folders and files of one name, told apart by as much of the ends of their paths as that takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

_COMMIT = re.compile(r"[0-9a-f]{40}")  # files have a longer hash


def shortest(paths: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """For each absolute path, the fewest of its last parts that no other path ends in, and that are not `taken`."""
    left = {path: path.split("/") for path in paths if path}
    found: dict[str, str] = {}
    length = 0
    while left:
        length += 1
        ends = {path: "/".join(parts[-length:]) for path, parts in left.items()}
        often = Counter(ends.values())
        for path, end in ends.items():
            if (often[end] == 1 and end not in taken) or length >= len(left[path]):
                found[path] = end
                del left[path]
    return found


class Names:
    """What models, adapters and tasks are called in one registry: by their ids, and folders and files by `shortest`.

    Args:
        models: (id, revision, label, path, path of the adapter) of each.
        tasks: (id, path) of each.
    """

    def __init__(self, models: Sequence[Sequence[str]], tasks: Sequence[Sequence[str]]) -> None:
        self._on_hub = {name for name, revision, _, path, _ in models if not path and _COMMIT.fullmatch(revision)}
        self._models = shortest({_folder(name, label, path) for name, _, label, path, _ in models}, self._on_hub)
        self._adapters = shortest({adapter for *_, adapter in models})
        files = {_file(name, path) for name, path in tasks}
        self._tasks = shortest(files, {name for name, path in tasks if not path})

    def model(self, name: str, label: str, path: str) -> str:
        """The model's name."""
        return self._models.get(_folder(name, label, path), name)

    def label(self, label: str, adapter: str) -> str:
        """The name of its revision, which is its adapter's where it has one."""
        return self._adapters[adapter] if adapter else label

    def task(self, name: str, path: str) -> str:
        """The task's name, with what follows the file's: its column, or its template."""
        file = _file(name, path)
        return self._tasks[file] + name[len(file.rpartition("/")[2]) :] if file else name

    def known(self, name: str, path: str) -> bool:
        """Whether it is told where the model lies; of older runs it is not."""
        return bool(path) or name in self._on_hub


def _folder(name: str, label: str, path: str) -> str:
    """The folder or file that the model is called after; "" where it is called after none."""
    if path.endswith(f"/{name}/{label}"):  # a checkpoint is called after the run that it lies in
        return path.removesuffix(f"/{label}")
    return path if path.endswith(f"/{name}") else ""


def _file(name: str, path: str) -> str:
    """The file or folder that the task is called after; "" where it is called after none."""
    last = path.rpartition("/")[2]
    return path if last and (name == last or name.startswith(f"{last}:")) else ""
