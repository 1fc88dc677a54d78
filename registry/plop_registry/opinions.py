"""What a method says of a model's modules: κ, SNR, α and others beside NFN, as the registry keeps it.

Opinion("kappa", 1, looks_at="weights", lowest=True, values=(ModuleValue("0.q_proj", "q_proj", 9.1),))
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from plop_registry.errors import RegistryError
from plop_registry.runs import Skipped

_LARGEST = 1 << 28
"""Bytes that an opinion may unpack to: a hundred times those of the largest known model."""


class ModuleValue(NamedTuple):
    """What a method says of a module, or of a whole layer: then `type` is empty and `name` is the layer's path."""

    name: str
    type: str
    value: float


@dataclass(frozen=True)
class Opinion:
    """What one method says of a model.

    `method` is its key ("kappa"), `version` that of its arithmetic here: a value of another version is computed anew.
    It adapts the modules with the lowest values where `lowest`, else those with the highest. Every value is finite
    (ValueError); a module that has none is in `left_out`, with the reason. `settings` are what the values depend on,
    `seconds` what they took.
    """

    method: str
    version: int
    looks_at: Literal["weights", "activations"]
    lowest: bool
    values: tuple[ModuleValue, ...]
    left_out: tuple[Skipped, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if odd := next((each for each in self.values if not math.isfinite(each.value)), None):
            raise ValueError(f"{self.method} of {odd.name} is {odd.value}; leave the module out, with the reason")

    def pack(self) -> bytes:
        """As compressed JSON: what the database keeps."""
        fields = asdict(self) | {"values": [list(each) for each in self.values]}
        return zlib.compress(json.dumps(fields, separators=(",", ":"), allow_nan=False).encode())

    @classmethod
    def unpack(cls, packed: bytes) -> Opinion:
        """The opinion that `pack` packed; RegistryError where `packed` is damaged."""
        try:
            unpacker = zlib.decompressobj()
            fields = json.loads(unpacker.decompress(packed, _LARGEST))
            if not unpacker.eof:
                raise ValueError("it is cut short, or longer than any")
            fields["values"] = tuple(ModuleValue(*each) for each in fields["values"])
            fields["left_out"] = tuple(Skipped(**each) for each in fields["left_out"])
            return cls(**fields)
        except (zlib.error, ValueError, TypeError, KeyError) as error:
            raise RegistryError("an opinion is damaged") from error
