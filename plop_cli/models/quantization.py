"""What weights are quantized to: its name, for the key of a run; and how transformers is asked for it.

Names are short and tell precision first: `nf4` and `int8` are bitsandbytes', others carry their method (`torchao-…`,
`gptq-4bit`, `gguf-Q4_K_M`).
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError

LOAD_IN = {"4bit": "nf4", "8bit": "int8"}
"""What `--load-in` takes, and the names of what comes out."""


def name_of(config: Any) -> str:
    """The name for a checkpoint's `quantization_config`, as config.json or transformers holds it.

    Raises PlopError where it has not the shape that transformers writes.
    """
    try:
        name = _name_of(config)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise PlopError("its quantization_config is none that transformers writes; copy config.json again") from error
    if not re.fullmatch(r"[\w.+-]{1,100}", name):
        raise PlopError("its quantization_config has no name for a method; copy config.json again")
    return name


def _name_of(config: Mapping[str, Any]) -> str:
    method = config.get("quant_method", "bitsandbytes")
    method = getattr(method, "value", method)  # an enum in transformers
    if method == "bitsandbytes":
        return "int8" if config.get("load_in_8bit") else str(config.get("bnb_4bit_quant_type", "fp4"))
    if method == "torchao":
        kind = config["quant_type"]
        return f"torchao-{kind if isinstance(kind, str) else kind['default']['_type']}"
    return f"{method}-{config['bits']}bit" if "bits" in config else str(method)


def quantization_of(model: Any) -> str | None:
    """The name for what the weights of a model in memory are quantized to; None where they are not."""
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    return name_of(config if isinstance(config, dict) else config.to_dict()) if config else None


def name_of_gguf(file: Path) -> str:
    """What a GGUF file says that most of its tensors are; "gguf" where it does not say."""
    from gguf import LlamaFileType

    try:
        kind = LlamaFileType(gguf_number(file, b"general.file_type"))
    except ValueError:  # it does not say, or a kind of the future
        return "gguf"
    return f"gguf-{kind.name.removeprefix('MOSTLY_')}"


def gguf_number(file: Path, key: bytes) -> int | None:
    """The unsigned 32-bit integer that a GGUF file has under a key, or one that ends so; None where there is none."""
    key += b"\4\0\0\0"  # 4: such an integer follows
    with file.open("rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                place = content.find(key, 0, 1 << 26)  # far beyond any vocabulary, well before the end of the weights
                start = place + len(key)
                return int.from_bytes(content[start : start + 4], "little") if place > 0 else None
        except ValueError:  # an empty file
            return None


def config_for(load_in: str, dtype: Any) -> Any:
    """What from_pretrained is given for `--load-in`; what is not quantized, and the products, are in `dtype`."""
    from transformers import BitsAndBytesConfig

    if load_in == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def package_of(name: str | None) -> str | None:
    """The package that weights quantized to `name` need, of those that plop's extras bring."""
    if name in ("nf4", "fp4", "int8"):
        return "bitsandbytes"
    return "torchao" if name and name.startswith("torchao-") else None
