"""GGUF files, their metadata parsed once and their tensors read one by one.

    with read_once():
        AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf")

transformers parses the metadata for the configuration, for the tokenizer and for the weights, through a memory map that
makes an array of every string, and keeps the whole file mapped while it dequantizes. Inside the block it is given what
was parsed here: plain Python values, and tensors that are read when they are asked for.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from plop_cli.errors import PlopError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PLAIN = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
_AT_ONCE = 1 << 18
"""How many values are dequantized at once: what fits into a CPU's caches."""
_Q5_0, _Q5_1 = 6, 7


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
        dtype, size = _PLAIN.get(self.tensor_type.name, "u1"), self.n_bytes // self.n_rows
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
        if kind != _ARRAY:
            return Field(name, [self._value(kind)], range(1), [kind])
        of, count = self._take("IQ")
        if of in _SCALARS:
            values = list(self._take(f"{count}{_SCALARS[of]}"))
        elif of == _STRING:
            self._check(8 * count)
            values = [self._string() for _ in range(count)]
        else:
            raise ValueError(f"{name} is an array of what is not known ({of})")
        return Field(name, values, range(len(values)), [kind, of])

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind not in _SCALARS:
            raise ValueError(f"a value is of a kind that is not known ({kind})")
        return self._take(_SCALARS[kind])[0]

    def _string(self) -> str:
        (length,) = self._take("Q")
        self._check(length)
        self._at += length
        return self._content[self._at - length : self._at].decode("utf-8")

    def _take(self, form: str) -> tuple[Any, ...]:
        form = f"<{form}"
        size = struct.calcsize(form)
        self._check(size)
        self._at += size
        return struct.unpack_from(form, self._content, self._at - size)

    def _check(self, size: int) -> None:
        if self._at + size > len(self._content):
            raise ValueError("it is cut short, or a length in it is wrong")


class _Fresh(np.ndarray[Any, Any]):
    """An array that nobody else holds: transformers copies what it is given, and this needs no copy.

    Of uint16 it holds the bits of 16-bit floats, as NumPy knows no bfloat16. They can be moved about; arithmetic on
    them is refused.
    """

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.copy:
            return np.ascontiguousarray(args[0]).view(np.ndarray)
        result = super().__array_function__(func, types, args, kwargs)
        return result.view(_Fresh) if isinstance(result, np.ndarray) else result

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if self.dtype == np.uint16:
            raise TypeError(f"{ufunc.__name__} is not for weights that are rounded already")
        plain = (each.view(np.ndarray) if isinstance(each, _Fresh) else each for each in inputs)
        return getattr(ufunc, method)(*plain, **kwargs)


class _Torch:
    """torch, for transformers' older reader: arrays of uint16 are what `_Fresh` says."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def from_numpy(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).view(self._dtype) if array.dtype == np.uint16 else torch.from_numpy(array)


def dequantize(data: Tensor, kind: Any, dtype: torch.dtype = torch.float32) -> np.ndarray[Any, Any]:
    """`gguf.dequantize` to the bit, of some rows at once on each core: quickly, and of nothing is there a second copy.

    Quantized matrices are rounded at once where `dtype` has 16 bits; norms, which transformers computes with, are not.
    """
    from gguf.quants import dequantize

    some = _in_torch(kind) or dequantize
    rounded = dtype.itemsize == 2 and len(data.shape) > 1 and data.tensor_type.name not in _PLAIN
    out = torch.empty((data.n_rows, data.shape[0]), dtype=dtype if rounded else torch.float32)

    def fill(start: int) -> None:
        end = min(start + step, data.n_rows)
        out[start:end] = torch.from_numpy(np.asarray(some(data.rows(start, end), kind)).reshape(end - start, -1))

    step = max(1, _AT_ONCE // data.shape[0])
    with _one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(0, data.n_rows, step)))
    return (out.view(torch.uint16) if rounded else out).numpy().reshape(data.shape[::-1]).view(_Fresh)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, torch's threads are no more than ours: for rows as few as these they would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_torch(kind: Any) -> Callable[[np.ndarray[Any, Any], Any], np.ndarray[Any, Any]] | None:
    """The same arithmetic in torch, of which transformers has most kinds of blocks; None for kinds that nobody has."""
    if int(kind) in (_Q5_0, _Q5_1):
        return _five_bits
    try:
        from transformers.integrations.gguf.dequant import GGML_BLOCK, dequantize
    except ImportError:  # an older transformers
        return None
    if int(kind) not in GGML_BLOCK:
        return None
    return lambda rows, kind: np.asarray(dequantize(torch.from_numpy(rows), int(kind)))


@cache
def _fifth_bits() -> torch.Tensor:
    """For each byte, what its eight bits add to eight values: 0 or 16, of a byte each, packed into an int64."""
    bits = torch.arange(256, dtype=torch.uint8)[:, None] >> torch.arange(8, dtype=torch.uint8) & 1
    return (bits << 4).view(torch.int64).flatten()


def _five_bits(rows: np.ndarray[Any, Any], kind: Any) -> np.ndarray[Any, Any]:
    """Q5_0 and Q5_1: blocks of 32 values with a scale, in Q5_1 a least value, the fifth bits, and 16 nibbles twice."""
    least = int(kind) == _Q5_1
    blocks = torch.from_numpy(rows.reshape(-1, 24 if least else 22))
    first = 4 if least else 2
    nibbles = blocks[:, first + 4 :]
    values = torch.cat([nibbles & 15, nibbles >> 4], 1)
    values |= _fifth_bits()[blocks[:, first : first + 4].long()].view(torch.uint8)
    half = blocks[:, :first].view(torch.float16).float()
    scaled = half[:, :1] * (values if least else values.view(torch.int8) - 16)
    return (scaled + half[:, 1:] if least else scaled).numpy()


def _plain(metadata: Metadata, whole: Container[str]) -> dict[str, Any]:
    """The values as transformers' newer reader gives them: arrays of strings as numbers, unless wanted whole."""
    return {
        name: entry.parts[0]
        if entry.types[0] != _ARRAY
        else len(entry.parts)
        if entry.types[1] == _STRING and name not in whole
        else entry.parts
        for name, entry in metadata.fields.items()
    }


@contextmanager
def read_once(dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Inside, transformers and gguf read what `metadata_of` parsed; afterwards they are as they were.

    Args: `dtype`, what the weights are wanted in.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as older

    def read(path: Any, mode: str = "r") -> Metadata:
        return metadata_of(Path(path))

    substitutes: list[tuple[Any, str, Any]] = [
        (gguf, "GGUFReader", read),
        (gguf, "dequantize", partial(dequantize, dtype=dtype)),
        (older, "torch", _Torch(dtype)),
        (gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        (older, "_gguf_parse_value", lambda value, types: value),
    ]
    with suppress(ImportError):  # transformers has had a second reader since 5.20
        from transformers.integrations.gguf import reader as newer

        def values(blob: Any, path: str, whole: Container[str] = ()) -> tuple[dict[str, Any], Metadata, int]:
            metadata = metadata_of(Path(path))
            return _plain(metadata, whole), metadata, 0

        def table(blob: Any, metadata: Metadata, at: int) -> tuple[list[tuple[Any, ...]], int]:
            start = metadata.start
            return [(t.name, t.shape[::-1], int(t.tensor_type), t.data_offset - start) for t in metadata.tensors], start

        substitutes += [(newer, "_read_metadata", values), (newer, "_read_tensor_table", table)]
    with ExitStack() as stack:
        for module, name, substitute in substitutes:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, substitute)
        yield
