"""transformers and gguf, reading a GGUF file once.

    with read_once():
        AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf")

transformers parses the metadata for the configuration, for the tokenizer and for the weights, through a memory map that
makes an array of every string, and keeps the whole file mapped while it dequantizes. Inside the block it is given what
`gguf_file` parsed: plain Python values, and tensors that `gguf_weights` reads when they are asked for.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from plop_cli.models.gguf_file import ARRAY, STRING, Metadata, metadata_of
from plop_cli.models.gguf_weights import TorchOfRounded, dequantize


def _plain(metadata: Metadata, whole: Container[str]) -> dict[str, Any]:
    """The values as transformers' newer reader gives them: arrays of strings as numbers, unless wanted whole."""
    return {
        name: entry.parts[0]
        if entry.types[0] != ARRAY
        else len(entry.parts)
        if entry.types[1] == STRING and name not in whole
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
        (older, "torch", TorchOfRounded(dtype)),
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
