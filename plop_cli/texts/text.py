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


class Answered(str):
    """A text that is a prompt and its completion, which are known apart: `--on answers` scores the completion alone."""

    prompt: str
    completion: str

    def __new__(cls, prompt: str, completion: str, between: str = "") -> Answered:
        text = super().__new__(cls, prompt + between + completion)
        text.prompt, text.completion = prompt, completion
        return text


class Conversation(list[Message]):
    """A conversation of which the turns before `begins` are a prompt: what the assistant says there is no answer."""

    begins = 0


_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "function": "tool",
    "observation": "tool",
}
"""What ShareGPT and its kin call roles."""


def role_and_content(turn: Any) -> tuple[str, Any] | None:
    """Who says what, in OpenAI's form (role, content) or in ShareGPT's (from, value); None for what is no turn."""
    if not isinstance(turn, dict):
        return None
    if isinstance(turn.get("role"), str):
        return turn["role"], turn.get("content")
    if isinstance(turn.get("from"), str) and "value" in turn:
        role: str = turn["from"]
        return _ROLES.get(role, role), turn["value"]
    return None


def text_hash(text: Text) -> bytes:
    """sha256 of the text's UTF-8, or of a conversation's JSON."""
    plain = text if isinstance(text, str) else json.dumps(text, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()


def text_ids(texts: Sequence[Text]) -> NDArray[np.uint64]:
    """The first 8 bytes of each text's hash: what a sample matrix knows its texts by."""
    return np.array([int.from_bytes(text_hash(text)[:8], "little") for text in texts], dtype=np.uint64)
