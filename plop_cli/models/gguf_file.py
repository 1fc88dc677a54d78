"""GGUF files: their metadata parsed once, without believing a length, and their tensors read by rows.

metadata_of(Path("model.gguf")).fields["general.architecture"].parts[0]
metadata_of(Path("model.gguf")).tensors[0].rows(0, 16)
"""

from __future__ import annotations

import mmap
import struct
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from plop_cli.errors import PlopError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
"""The kinds of values that are none of these numbers."""
PLAIN = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
"""NumPy's names of the kinds of tensors that are not quantized; BF16, which it has not, is read as bytes."""


class Field(NamedTuple):
    """One entry of the metadata, as `gguf.ReaderField` holds it but with values parsed: `parts[i] for i in data`."""

    name: str
    parts: list[Any]
    data: range
    types: list[int]


@dataclass(frozen=True)
class Tensor:
    """One tensor: its name, its `gguf.GGMLQuantizationType`, its shape in GGUF's order, where it lies and how long."""

    path: Path
    name: str
    tensor_type: Any
    shape: tuple[int, ...]
    n_bytes: int
    data_offset: int

    @property
    def n_elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def data(self) -> Tensor:
        """What `dequantize` is given: this, of which it reads some rows at a time."""
        return self

    @property
    def n_rows(self) -> int:
        return self.n_elements // self.shape[0] if self.n_elements else 0

    def rows(self, start: int, end: int) -> np.ndarray[Any, Any]:
        """The raw values or blocks of some rows, read now and kept by nobody: of bytes where they are quantized."""
        dtype, size = PLAIN.get(self.tensor_type.name, "u1"), self.n_bytes // self.n_rows
        at, length = self.data_offset + start * size, (end - start) * size
        content = np.fromfile(self.path, np.uint8, length, offset=at)
        if len(content) < length:
            raise PlopError(f"{self.path} became shorter while it was read; run the command again")
        return content.view(dtype).reshape(end - start, -1)


@dataclass(frozen=True)
class Metadata:
    """What stands before the tensors' values: `fields` by name, and the `tensors`."""

    fields: OrderedDict[str, Field]
    tensors: list[Tensor]
    start: int
    """Where the tensors' values begin."""


def metadata_of(path: Path) -> Metadata:
    """The metadata of a GGUF file, parsed at the first call and when the file has changed.

    Raises PlopError where the file is none, is cut short, or tells of more than it holds.
    """
    stat = path.stat()
    return _parsed(path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1)
def _parsed(path: Path, size: int, changed: int, inode: int) -> Metadata:
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Parser(path, content).metadata()
    except (struct.error, ValueError, IndexError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise PlopError(f"{path} is no whole GGUF file ({error}); copy or download it again") from error


class _Parser:
    """A walk over the bytes, in which no length is believed before the file is long enough for it."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._at = path, content, 0

    def metadata(self) -> Metadata:
        if self._content[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        (version,) = self._take("I")
        if version not in (2, 3):
            raise ValueError(f"it is of version {version}, and 2 and 3 are known")
        tensors, entries = self._take("QQ")
        self._check(13 * entries + 24 * tensors)
        fields = OrderedDict((entry.name, entry) for entry in (self._field() for _ in range(entries)))
        alignment = fields["general.alignment"].parts[0] if "general.alignment" in fields else 32
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"its tensors begin at multiples of {alignment}")
        told = [(self._string(), self._take(f"{self._take('I')[0]}Q"), *self._take("IQ")) for _ in range(tensors)]
        start = -(-self._at // alignment) * alignment
        parsed = [self._tensor(start, *entry) for entry in told]
        if len({tensor.name for tensor in parsed}) < len(parsed):
            raise ValueError("two of its tensors have one name")
        return Metadata(fields, parsed, start)

    def _tensor(self, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> Tensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        tensor_type = GGMLQuantizationType(kind)
        block, size = GGML_QUANT_SIZES[tensor_type]
        elements = 1
        for length in shape:
            elements *= length
        if shape and shape[0] % block:
            raise ValueError(f"a row of {name} is no whole number of blocks")
        n_bytes = elements * size // block
        if start + offset + n_bytes > len(self._content):
            raise ValueError(f"{name} reaches past its end")
        return Tensor(self._path, name, tensor_type, shape, n_bytes, start + offset)

    def _field(self) -> Field:
        name, (kind,) = self._string(), self._take("I")
        if kind != ARRAY:
            return Field(name, [self._value(kind)], range(1), [kind])
        of, count = self._take("IQ")
        if of in _SCALARS:
            values = list(self._take(f"{count}{_SCALARS[of]}"))
        elif of == STRING:
            values = self._strings(count)
        else:
            raise ValueError(f"{name} is an array of what is not known ({of})")
        return Field(name, values, range(len(values)), [kind, of])

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind not in _SCALARS:
            raise ValueError(f"a value is of a kind that is not known ({kind})")
        return self._take(_SCALARS[kind])[0]

    def _string(self) -> str:
        (length,) = self._take("Q")
        self._check(length)
        self._at += length
        return self._content[self._at - length : self._at].decode("utf-8")

    def _strings(self, count: int) -> list[str]:
        """So many strings: a tokenizer has some 300,000, each a call of `_string`'s without this."""
        self._check(8 * count)
        content, at, end, length_at = self._content, self._at, len(self._content), struct.Struct("<Q").unpack_from
        values = []
        for _ in range(count):
            start = at + 8
            at = start + length_at(content, at)[0]
            if at > end:
                self._check(at - self._at)
            values.append(str(content[start:at], "utf-8"))
        self._at = at
        return values

    def _take(self, form: str) -> tuple[Any, ...]:
        form = f"<{form}"
        size = struct.calcsize(form)
        self._check(size)
        self._at += size
        return struct.unpack_from(form, self._content, self._at - size)

    def _check(self, size: int) -> None:
        if self._at + size > len(self._content):
            raise ValueError("it is cut short, or a length in it is wrong")
