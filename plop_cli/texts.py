"""What a text is, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

Message = dict[str, Any]
Text = str | list[Message]
"""A text to score, or a conversation (role/content messages) that the tokenizer's chat template turns into one."""


def text_hash(text: Text) -> bytes:
    """sha256 of the text's UTF-8, or of a conversation's JSON."""
    plain = text if isinstance(text, str) else json.dumps(text, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()
