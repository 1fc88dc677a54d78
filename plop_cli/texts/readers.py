"""Rows of files, of data sets on the hub and of standard input."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from plop_cli import hub
from plop_cli.errors import PlopError
from plop_cli.quiet import quiet_datasets

Row = Mapping[str, Any]

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
"""What a file is read as, by its suffix."""


def rows_of_file(path: Path) -> Sequence[Row]:
    """The rows of a .jsonl, .json, .csv, .parquet or .txt file. Raises PlopError where it cannot be read."""
    if not path.is_file():
        raise PlopError(f"no file {path}; check the path")
    if path.suffix not in FORMATS:
        raise PlopError(f"{path} is of no known kind; give one of {', '.join(FORMATS)}")
    content = path.read_bytes()
    if not content.strip():
        raise PlopError(f"{path} is empty; give at least one text")
    if path.suffix == ".jsonl":  # the reader behind `datasets` does not say which line is malformed
        for _ in _parsed(content.decode("utf-8", "replace").splitlines(), str(path)):
            pass
    with _datasets(str(path)) as datasets, tempfile.TemporaryDirectory() as scratch:
        rows: Sequence[Row] = datasets.load_dataset(
            FORMATS[path.suffix], data_files=str(path), split="train", cache_dir=scratch, keep_in_memory=True
        )
    return rows


def rows_of_stream(content: bytes) -> list[Row]:
    """The rows of what came on standard input: JSON lines if the first line is a JSON object, else a text per line."""
    lines = content.decode("utf-8", "replace").splitlines()
    if not any(line.strip() for line in lines):
        raise PlopError("standard input is empty; give a text per line, or JSON lines")
    if next(line for line in lines if line.strip()).lstrip().startswith("{"):
        return [row for _, row in _parsed(lines, "standard input")]
    return [{"text": line} for line in lines]


def rows_of_hub(name: str, config: str | None, split: str | None) -> tuple[Sequence[Row], str]:
    """The rows of a split of a data set on the hub, and their commit. Raises PlopError where it cannot be read."""
    info = hub.ask(name, None, "dataset")
    with _datasets(name, offline=info is None) as datasets:
        rows = datasets.load_dataset(name, config, split=split or "train", revision=info.sha if info else None)
    # Without the hub, the folder that the cached rows lie in names the commit.
    return rows, info.sha if info else Path(rows.cache_files[0]["filename"]).parent.name


def _parsed(lines: Sequence[str], source: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PlopError(f"{source}, line {number}: malformed JSON ({error}); mend or remove the line") from error
        if not isinstance(row, dict):
            raise PlopError(f"{source}, line {number}: not a JSON object; write one object per line")
        yield number, row


@contextmanager
def _datasets(source: str, *, offline: bool = False) -> Iterator[Any]:
    """The `datasets` library, whose errors of many kinds all mean that this source cannot be read."""
    import datasets

    try:
        with quiet_datasets(), hub.offline() if offline else nullcontext():
            yield datasets
    except Exception as error:
        if offline:
            raise hub.unreachable(f"the data set {source!r}") from error
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise PlopError(f"{source} cannot be read as a data set ({reason[:300]}); check its name and form") from error
