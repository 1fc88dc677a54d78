"""Names that others chose, fit to be shown: nothing in them is obeyed by a terminal, and none is endless."""

from __future__ import annotations

import hashlib
import re
from typing import Any

LONGEST = 200
"""As many characters of one name are shown."""

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and line feed, those that turn the direction of writing, and half characters."""
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """`text`, with what a terminal would obey written as Python writes it: \\x1b."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def short(name: str, longest: int = LONGEST) -> str:
    """`name`, or of a very long one both its ends, and the start of its hash: different names stay different."""
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[:120]}… {digest} …{name[-40:]}"


def for_xml(value: Any) -> Any:
    """Plain data without the characters that XML forbids; U+FFFD is in their place."""
    if isinstance(value, dict):
        return {for_xml(key): for_xml(part) for key, part in value.items()}
    if isinstance(value, list):
        return [for_xml(part) for part in value]
    return _NO_XML.sub("\ufffd", value) if isinstance(value, str) else value
