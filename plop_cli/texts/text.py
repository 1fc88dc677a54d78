"""What a text is, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Message = dict[str, Any]
Text = str | list[Message]
"""A text to score, or a conversation (role/content messages) that the tokenizer's chat template turns into one."""


def text_hash(text: Text) -> bytes:
    """sha256 of the text's UTF-8, or of a conversation's JSON."""
    plain = text if isinstance(text, str) else json.dumps(text, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()


def text_ids(texts: Sequence[Text]) -> NDArray[np.uint64]:
    """The first 8 bytes of each text's hash: what a sample matrix knows its texts by."""
    return np.array([int.from_bytes(text_hash(text)[:8], "little") for text in texts], dtype=np.uint64)
