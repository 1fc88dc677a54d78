"""Rows of files, of data sets on the hub and of standard input, and what pins them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from plop_cli import hub
from plop_cli.errors import PlopError
from plop_cli.progress import says
from plop_cli.quiet import quiet_datasets
from plop_cli.texts.content import Content, hash_of, state_of
from plop_cli.texts.folders import Found
from plop_cli.texts.formats import COMPRESSED, FORMATS, format_of
from plop_cli.texts.lines import csv_rows, json_rows, text_rows
from plop_cli.texts.pinned import Pinned
from plop_cli.texts.rows import InMemory, Joined, Rows, Streamed
from plop_cli.texts.tables import ArrowRows, ParquetRows

LARGE = 5_000_000
"""Rows of a split on the hub from which on it is streamed, not fetched and converted as a whole."""

_READ = {
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".txt": text_rows,
}


def rows_of_file(path: Path) -> Rows:
    """The rows of a file of one of the `FORMATS`. Raises PlopError where it cannot be read."""
    return rows_of_found(Found(path.name, (path,), path.parent))[0]


def rows_of_found(found: Found) -> tuple[Rows, str]:
    """The rows of files, and their revision: the sha256 of a single file, or of the names and sha256 of several."""
    read = [_rows_of_file(path) for path in found.files]
    if len(read) == 1:
        return read[0]
    listed = "".join(
        f"{revision}  {path.relative_to(found.root).as_posix()}\n"
        for path, (_, revision) in zip(found.files, read, strict=True)
    )
    return Joined([rows for rows, _ in read]), hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def unchanged(found: Found) -> Iterator[None]:
    """Raises PlopError where a file was changed while it was read."""
    before = [state_of(path) for path in found.files]
    yield
    for path, state in zip(found.files, before, strict=True):
        if state_of(path) != state:
            raise PlopError(f"{path} was changed while it was read; run this again once it is written")


def rows_of_stream(stream: BinaryIO | None) -> tuple[Rows, str]:
    """The rows of standard input, and its sha256: JSON if it begins as such, else a text per line."""
    if stream is None:
        raise PlopError("standard input is closed; pipe texts into it, or name a file")
    content = Content.of_stream(stream, "standard input")
    beginning = next(content.blocks(), b"")[:4096].split()
    if not beginning:
        raise PlopError("standard input is empty; give a text per line, or JSON lines")
    json = beginning[0].startswith(b"{") or b"".join(beginning[:2]).startswith(b"[{")
    return (json_rows if json else text_rows)(content), content.revision


def rows_of_hub(name: str, config: str | None, split: str | None) -> tuple[Rows, str]:
    """The rows of a split of a data set on the hub, and their commit. Raises PlopError where it cannot be read.

    They are loaded where they are asked for, and those of a draw that was made before not even then.
    """
    info = hub.ask(name, None, "dataset")
    split = split or "train"
    if info:
        return Pinned(lambda: _at(info.sha, name, config, split), name, config, split, info.sha), info.sha
    with _datasets(name, offline=True) as datasets:
        rows = datasets.load_dataset(name, config, split=split)
    # Without the hub, the folder that the cached rows lie in names the commit.
    return InMemory(rows), Path(rows.cache_files[0]["filename"]).parent.name


def _at(commit: str, name: str, config: str | None, split: str) -> Rows:
    says(f"reading {name}")
    with _datasets(name) as datasets:
        if _rows_told(datasets.load_dataset_builder(name, config, revision=commit), split) > LARGE:
            stream = datasets.load_dataset(name, config, split=split, revision=commit, streaming=True)
            return Streamed([stream.shard(stream.num_shards, index) for index in range(stream.num_shards)])
        return InMemory(datasets.load_dataset(name, config, split=split, revision=commit))


def _rows_told(builder: Any, split: str) -> int:
    """How many rows the data set's card says a split has, such as `train` or `train[:10%]`; 0 where it does not."""
    told = (builder.info.splits or {}).get(split.partition("[")[0])
    return int(told.num_examples or 0) if told else 0


def _rows_of_file(path: Path) -> tuple[Rows, str]:
    state_of(path)
    kind = format_of(path)
    if not kind:
        known = f"{', '.join(FORMATS)}, text also with {' or '.join(COMPRESSED)}"
        raise PlopError(f"{path} is of no known kind; give one of {known}")
    if kind in _READ:
        content = Content.of_file(path)
        return _READ[kind](content), content.revision
    if path.suffix.lower() in COMPRESSED:
        raise PlopError(f"{path} is compressed twice; unpack it to {path.stem}")
    revision = hash_of(path, str(path))
    return (ParquetRows(path) if kind == ".parquet" else ArrowRows(path)), revision


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
