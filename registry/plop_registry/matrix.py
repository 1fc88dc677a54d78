"""The sample matrix: the one thing that is kept of a forward pass.

NumPy is imported where bytes become arrays, so that listing runs starts without it.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER = struct.Struct("<8sII")  # magic, samples, modules
_MAGIC = b"plopmat1"
_LARGEST = 1 << 30  # bytes: 1,000 texts of 89,000 modules
_DTYPES = {"texts": "<u8", "sums": "<f4", "squares": "<f4", "counts": "<i4"}


@dataclass(frozen=True, slots=True, eq=False)
class SampleMatrix:
    """What each sample adds to each module's mean; the columns are the run's modules, in their order.

    texts    uint64 (samples,)            the first 8 bytes of each text's sha256, which pair samples between runs
    sums     float32 (samples, modules)   Σ NFN over the sample's tokens
    squares  float32 (samples, modules)   Σ NFN² over the sample's tokens
    counts   int32 (samples, modules)     how many tokens those were

    Arrays of other numeric types are converted; ValueError where shapes disagree.
    """

    texts: NDArray[np.uint64]
    sums: NDArray[np.float32]
    squares: NDArray[np.float32]
    counts: NDArray[np.int32]

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, getattr(self, name).astype(dtype, copy=False))
        shapes = {array.shape for array in (self.sums, self.squares, self.counts)}
        if shapes != {(len(self.texts), *self.sums.shape[1:])} or self.sums.ndim != 2 or self.texts.ndim != 1:
            raise ValueError(f"{len(self.texts)} texts and matrices of {sorted(shapes)} do not fit together")

    def raw(self) -> bytes:
        """Header and arrays, little-endian, row by row."""
        samples, modules = self.sums.shape
        arrays = b"".join(getattr(self, name).tobytes() for name in _DTYPES)
        return _HEADER.pack(_MAGIC, samples, modules) + arrays

    def pack(self) -> bytes:
        """`raw`, compressed by zlib: what the database keeps."""
        return zlib.compress(self.raw())

    def sha256(self) -> str:
        """Hash of `raw`: it does not depend on how well a machine's zlib compresses."""
        return hashlib.sha256(self.raw()).hexdigest()

    @classmethod
    def unpack(cls, packed: bytes, shape: tuple[int, int] | None = None) -> SampleMatrix:
        """The matrix that `pack` packed, bit by bit, in read-only arrays; RegistryError where `packed` is damaged.

        No more is unpacked than the header says, and nothing where that is more than any matrix has, or is not of the
        `shape` (samples, modules) that the run has.
        """
        import numpy as np

        stream = zlib.decompressobj()
        try:
            head = stream.decompress(packed, _HEADER.size)
            magic, samples, modules = _HEADER.unpack(head)
            size = 8 * samples + 12 * samples * modules
            if magic != _MAGIC or size > _LARGEST or shape not in (None, (samples, modules)):
                raise RegistryError("the sample matrix is damaged (its header does not fit)")
            raw = head + stream.decompress(stream.unconsumed_tail, size + 1)
        except (zlib.error, struct.error) as error:
            raise RegistryError(f"the sample matrix is damaged ({error})") from error
        if len(raw) != _HEADER.size + size or not stream.eof or stream.unused_data:
            raise RegistryError("the sample matrix is damaged (its size does not fit its header)")
        arrays, offset = {}, _HEADER.size
        for name, dtype in _DTYPES.items():
            own = (samples,) if name == "texts" else (samples, modules)
            arrays[name] = np.ndarray(own, dtype, raw, offset)
            offset += arrays[name].nbytes
        return cls(**arrays)

    @classmethod
    def verified(cls, sha256: str, packed: bytes) -> SampleMatrix:
        """The matrix that `pack` packed, if it has this hash; RegistryError where it is damaged."""
        matrix = cls.unpack(packed)
        if matrix.sha256() != sha256:
            raise RegistryError("the sample matrix is damaged (its hash has changed)")
        return matrix
