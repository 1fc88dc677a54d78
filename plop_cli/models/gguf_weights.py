"""The values of a GGUF's tensors, dequantized by rows on all cores, and rounded at once where 16 bits are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

from plop_cli.models.gguf_file import PLAIN, Tensor

_AT_ONCE = 1 << 19
"""How many values are dequantized at once: few enough for a CPU's caches, and many for each call of torch."""
_Q5_0, _Q5_1 = 6, 7
_NIBBLES = 0x0F0F0F0F0F0F0F0F


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


class TorchOfRounded:
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
    rounded = dtype.itemsize == 2 and len(data.shape) > 1 and data.tensor_type.name not in PLAIN
    out = torch.empty((data.n_rows, data.shape[0]), dtype=dtype if rounded else torch.float32)

    def fill(start: int) -> None:
        end = min(start + step, data.n_rows)
        out[start:end] = torch.from_numpy(np.asarray(some(data.rows(start, end), kind)).reshape(end - start, -1))

    step = max(1, _AT_ONCE // data.shape[0])
    if len(starts := range(0, data.n_rows, step)) == 1:
        fill(0)
    else:
        with _one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, starts))
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
    nibbles = blocks[:, first + 4 :].contiguous().view(torch.int64)  # eight values at a time
    values = torch.cat([nibbles & _NIBBLES, nibbles >> 4 & _NIBBLES], 1)
    values |= _fifth_bits().index_select(0, blocks[:, first : first + 4].int().flatten()).view(-1, 4)
    signed = values.view(torch.int8)
    half = blocks[:, :first].view(torch.float16).float()
    scaled = (signed if least else signed.sub_(16)).float().mul_(half[:, :1])
    return (scaled.add_(half[:, 1:]) if least else scaled).numpy()
