"""What a model is made of, as the registry keeps it: enough to place adapters without looking at the model again."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import NamedTuple

from plop_registry.errors import RegistryError

_LARGEST = 1 << 28
"""Bytes that an anatomy may unpack to: a hundred times those of the largest known model."""


class Shape(NamedTuple):
    """A linear module: its full path, its type, and the shape of W."""

    name: str
    type: str
    in_features: int
    out_features: int


@dataclass(frozen=True)
class Anatomy:
    """`names` are all modules, `modules` the linear ones of the body, `parameters` how many weights there are.

    `attention` are the types whose outputs meet in the attention (not its output projection), `feed_forward` the types
    of the blocks that are outside of any attention; both empty where the model cannot be traced.
    """

    architecture: str
    names: tuple[str, ...]
    modules: tuple[Shape, ...]
    parameters: int
    attention: tuple[str, ...]
    feed_forward: tuple[str, ...]

    def pack(self) -> bytes:
        """As compressed JSON: what the database keeps."""
        return zlib.compress(json.dumps(asdict(self), separators=(",", ":")).encode())

    @classmethod
    def unpack(cls, packed: bytes) -> Anatomy:
        """The anatomy that `pack` packed; RegistryError where `packed` is damaged."""
        try:
            unpacker = zlib.decompressobj()
            fields = json.loads(unpacker.decompress(packed, _LARGEST))
            if not unpacker.eof:
                raise ValueError("it is cut short, or longer than any")
            fields["modules"] = tuple(Shape(*shape) for shape in fields["modules"])
            fields |= {name: tuple(fields[name]) for name in ("names", "attention", "feed_forward")}
            return cls(**fields)
        except (zlib.error, ValueError, TypeError, KeyError) as error:
            raise RegistryError("the anatomy of the model is damaged") from error
