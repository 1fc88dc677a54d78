"""Runs and races in files, to travel between registries or to be read by other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.files import check_new, replacing, write
from plop_cli.runs.selection import find_runs
from plop_registry import Opinion, Registry, RegistryError, Run, SampleMatrix, to_frame
from plop_registry.racestore import to_line as race_line
from plop_registry.runs import id_of
from plop_registry.transfer import to_line

KINDS = ("jsonl", "csv", "parquet")
_LINE = 1 << 30
"""As many characters of a line are read; no exported run has as many."""


def write_runs(
    registry: Registry,
    path: Path,
    filters: Mapping[str, Any],
    *,
    limit: int | None = None,
    kind: str | None = None,
    force: bool = False,
) -> tuple[int, int]:
    """Write the runs that fit all filters, oldest first, and then the races; how many there were of each.

    Args:
        kind: one of KINDS; None is the file's suffix. JSON lines hold everything; the others a row for each type of
            each run, and no races.
        force: replace a file that exists.

    Raises PlopError where nothing fits or the file cannot be written; then it is as it was.
    """
    kind = kind or path.suffix.removeprefix(".")
    if kind not in KINDS:
        raise PlopError(f"{path} ends in none of {', '.join(KINDS)}; give --format")
    check_new(path, force=force)
    given = {name: value for name, value in filters.items() if value is not None}
    races = registry.races.all(**given, limit=limit)[::-1] if kind == "jsonl" else []
    if not races:
        find_runs(registry, filters, limit=1)
    with replacing(path) as draft:
        if kind == "jsonl":
            lines = registry.export_lines(**given, limit=limit)
            with draft.open("w", encoding="utf-8", newline="\n") as stream:
                count = sum(bool(stream.write(f"{line}\n")) for line in lines)
                stream.writelines(f"{race_line(race)}\n" for race in races)
            if not count and not races:  # what fits was found damaged: the file that is there is worth more
                raise PlopError("no run that fits is sound; plop registry check says what is wrong")
            return count, len(races)
        runs = registry.runs(**given, limit=limit)[::-1]
        frame = to_frame(runs)
        if kind == "csv":
            frame.to_csv(draft, index=False, lineterminator="\n")
        else:
            frame.to_parquet(draft, index=False)
        return len(runs), 0


def read_runs(registry: Registry, path: Path) -> tuple[int, int]:
    """Store the runs and races of an exported file, all or none; how many were added, and how many known before."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as stream:
            # A line that never ends, such as that of a device, is not read to its end.
            return registry.import_lines(iter(lambda: stream.readline(_LINE), ""), str(path))
    except OSError as error:
        raise PlopError(f"cannot read {path} ({error.strerror}); give a file that plop export wrote") from error


def keep(registry: Registry, run: Run, matrix: SampleMatrix, opinions: Sequence[Opinion] = ()) -> Run:
    """Store a run, and what other methods say of it, and return it as stored.

    Raises RegistryError where it cannot be stored. Then it is kept in a file that `plop import` takes, beside the
    registry, or where nothing can be written there, in the current folder; the message says where.
    """
    try:
        stored = registry.add(run, matrix)
        if opinions:
            registry.opinions.keep_of_run(stored.id, opinions)
        return stored
    except RegistryError as error:
        kept = replace(run, id=id_of(run.content(), matrix.sha256()))
        folders = [registry.path.parent, Path.cwd()] if registry.path else [Path.cwd()]
        for file in (folder / f"plop-run-{kept.id}.jsonl" for folder in folders):
            with suppress(PlopError):
                write(file, f"{to_line(kept, matrix.pack())}\n".encode())
                raise RegistryError(f"{error}; the run is kept in {file} (plop import)") from error
        raise RegistryError(f"{error}; nor can it be kept in {' or '.join(map(str, folders))}") from error
