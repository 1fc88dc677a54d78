"""Rows of Parquet and Arrow files: row groups and record batches are read one at a time, wanted columns alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.texts.rows import Row, Rows

_BATCH = 4096
"""Rows of a Parquet row group that are decoded at once."""

_BUFFER = 1 << 20
"""Bytes of a column that are read at once, instead of the whole column of a row group."""


class ParquetRows(Rows):
    """Rows of a .parquet file. Raises PlopError where it is none."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._path = path
        with _readable(path):
            self._file = parquet.ParquetFile(path, buffer_size=_BUFFER)
            groups = map(self._file.metadata.row_group, range(self._file.num_row_groups))
            self._starts: list[int] = [0, *accumulate(group.num_rows for group in groups)]

    def __len__(self) -> int:
        return self._starts[-1]

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        rows: dict[int, Row] = {}
        waiting = sorted(set(indices), reverse=True)
        known = None if columns is None else [name for name in columns if name in self._file.schema_arrow.names]
        while waiting:
            group = bisect_right(self._starts, waiting[-1]) - 1
            start = self._starts[group]
            with _readable(self._path):
                for batch in self._file.iter_batches(_BATCH, row_groups=[group], columns=known, use_threads=False):
                    end = start + batch.num_rows
                    while waiting and waiting[-1] < end:
                        index = waiting.pop()
                        rows[index] = batch.slice(index - start, 1).to_pylist()[0]
                    start = end
                    if not waiting or waiting[-1] >= self._starts[group + 1]:
                        break
        return [rows[index] for index in indices]


class ArrowRows(Rows):
    """Rows of an .arrow file as `datasets` saves it: mapped into memory, not read."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        with _readable(path):
            source = pa.memory_map(str(path))
            try:
                reader = pa.ipc.open_stream(source)
                self._batches: list[Any] = list(reader)
            except pa.ArrowInvalid:
                source.seek(0)
                file = pa.ipc.open_file(source)
                self._batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        self._starts: list[int] = [0, *accumulate(batch.num_rows for batch in self._batches)]

    def __len__(self) -> int:
        return self._starts[-1]

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> list[Row | PlopError]:
        rows: list[Row | PlopError] = []
        for index in indices:
            at = bisect_right(self._starts, index) - 1
            with _readable(self._path):
                rows.append(self._batches[at].slice(index - self._starts[at], 1).to_pylist()[0])
        return rows


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PlopError(f"{path} cannot be read ({reason}); check that it is whole, and what its name says") from error
