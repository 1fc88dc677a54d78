"""The bytes of a file or of standard input: hashed, decompressed, in UTF-8, and read where they are wanted.

    content = Content.of_file(Path("texts.jsonl.gz"))
    content.revision, content.kind            # sha256 of the file, ".jsonl"
    for block in content.blocks(): ...        # all of it, a few megabytes at a time
    for data in content.spans([(0, 80)]): ... # some of it

What cannot be sought in (compressed files) is read from its start up to what is wanted. What is not UTF-8 is told by
its mark (BOM) and put into UTF-8 in a temporary file, or refused.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from plop_cli.errors import PlopError
from plop_cli.texts.formats import COMPRESSED

Stream = IO[bytes]

_BLOCK = 1 << 22
_LONGEST = 1 << 26
"""Bytes that a row may have: more is no text but a file of another form."""

_IN_MEMORY = 1 << 25
"""Bytes of standard input, or of text put into UTF-8, that stay in memory; more goes into a temporary file."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _open_zst(path: Path) -> Stream:
    import pyarrow as pa

    return cast(Stream, io.BufferedReader(pa.input_stream(str(path), compression="zstd")))


_OPEN: dict[str, Callable[[Path], Stream]] = {
    ".gz": lambda path: cast(Stream, gzip.GzipFile(path)),
    ".zst": _open_zst,
}
"""How a compressed file is opened, by its last suffix."""


class Content:
    """Bytes under a name. `kind` is the suffix that says what they are, `revision` the sha256 of them as given."""

    def __init__(
        self, name: str, kind: str, revision: str, open_: Callable[[], AbstractContextManager[Stream]], seekable: bool
    ) -> None:
        self.name, self.kind, self.revision = name, kind, revision
        self._open, self._seekable = open_, seekable
        with self.open() as stream:
            mark = stream.read(4)
        for known, encoding in _MARKS:
            if mark.startswith(known):
                self._put_into_utf8(encoding)
                mark = b""
                break
        self.start = len(codecs.BOM_UTF8) if mark.startswith(codecs.BOM_UTF8) else 0
        """Where the text begins: after UTF-8's mark, if there is one."""

    @classmethod
    def of_file(cls, path: Path, name: str | None = None) -> Content:
        """Of a file on the disk. Raises PlopError where it cannot be read."""
        suffixes = [suffix.lower() for suffix in path.suffixes]
        compressed = bool(suffixes) and suffixes[-1] in COMPRESSED
        kind = "".join(suffixes[-2:-1] if compressed else suffixes[-1:])
        opened = _OPEN[suffixes[-1]] if compressed else lambda path: path.open("rb")
        name = name or str(path)
        return cls(name, kind, hash_of(path, name), lambda: opened(path), not compressed)

    @classmethod
    def of_stream(cls, stream: BinaryIO, name: str) -> Content:
        """Of what can be read once: it is kept, in memory or in a temporary file."""
        kept, digest = _kept(), hashlib.sha256()
        with _readable(name):
            while block := stream.read(_BLOCK):
                digest.update(block)
                kept.write(block)
        return cls(name, "", digest.hexdigest(), lambda: _rewound(kept), True)

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """A stream from the first byte, for as long as the block lasts."""
        with _readable(self.name), self._open() as stream:
            yield stream

    def blocks(self) -> Iterator[bytes]:
        """All of the text, in order. Raises PlopError at the line that is not UTF-8, or is binary."""
        decoder, lines = codecs.getincrementaldecoder("utf-8")(), 1
        with self.open() as stream:
            stream.read(self.start)
            while block := stream.read(_BLOCK):
                try:
                    if b"\0" in block:
                        raise _not_text(self.name, lines + block[: block.index(b"\0")].count(b"\n"), "a NUL byte")
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    at = max(error.start - (len(error.object) - len(block)), 0)
                    raise _not_utf8(self.name, lines + block[:at].count(b"\n"), error) from error
                lines += block.count(b"\n")
                yield block
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _not_utf8(self.name, lines, error) from error

    def spans(self, wanted: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes between each start and end, which ascend."""
        position = 0
        with self.open() as stream:
            for start, end in wanted:
                if end - start > _LONGEST:
                    line = self.line_at(start)
                    raise PlopError(f"{self.name}, line {line}: {end - start:,} bytes in one row; split it into texts")
                if self._seekable:
                    stream.seek(start)
                else:
                    while position < start:
                        position += len(stream.read(min(_BLOCK, start - position)))
                yield stream.read(end - start)
                position = end

    def line_at(self, offset: int) -> int:
        """The number of the line that the byte at `offset` is in, from 1."""
        line, position = 1, self.start
        for block in self.blocks():
            line += block[: max(offset - position, 0)].count(b"\n")
            position += len(block)
            if position >= offset:
                break
        return line

    def read(self) -> bytes:
        """All of it. Raises PlopError where that is more than a file which is no list of rows may have."""
        content = b"".join(self.blocks()) if self.size() <= _LONGEST else None
        if content is None:
            raise PlopError(f"{self.name} is one JSON value of {self.size():,} bytes; write a JSON object per line")
        return content

    def size(self) -> int:
        """How many bytes there are."""
        with self.open() as stream:
            if self._seekable:
                return stream.seek(0, os.SEEK_END)
            return sum(map(len, iter(lambda: stream.read(_BLOCK), b"")))

    def _put_into_utf8(self, encoding: str) -> None:
        kept, decoder = _kept(), codecs.getincrementaldecoder(encoding)()
        with self.open() as stream:
            try:
                while block := stream.read(_BLOCK):
                    kept.write(decoder.decode(block).encode())
                decoder.decode(b"", final=True)
            except UnicodeError as error:
                raise PlopError(
                    f"{self.name} begins as {encoding.upper()} and is not ({error}); save it as UTF-8"
                ) from error
        self._open, self._seekable = (lambda: _rewound(kept)), True


def hash_of(path: Path, name: str) -> str:
    """sha256 of a file's content. Raises PlopError where it cannot be read."""
    with _readable(name), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: Path) -> tuple[int, ...]:
    """What changes when a file does: its size, inode and times. Raises PlopError for what is no regular file."""
    with _readable(str(path)):
        state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise PlopError(f"{path} is no regular file; pipe it in: --task - < {path}")
    return state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns


def _kept() -> Any:
    return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)


def _rewound(kept: Any) -> AbstractContextManager[Stream]:
    kept.seek(0)
    return nullcontext(kept)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Whatever keeps bytes from being read is one error."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlopError(f"{name} cannot be read ({reason}); check that it is whole and that you may read it") from error


def _not_text(name: str, line: int, what: str) -> PlopError:
    return PlopError(f"{name}, line {line}: {what}, so this is no UTF-8 text; save it as UTF-8")


def _not_utf8(name: str, line: int, error: UnicodeDecodeError) -> PlopError:
    return _not_text(name, line, f"the byte 0x{error.object[error.start]:02x}")
