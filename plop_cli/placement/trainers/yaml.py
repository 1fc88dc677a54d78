"""The little YAML that the exports need."""

from __future__ import annotations

import json
import re
from typing import Any


def mapping(values: dict[str, Any], indent: str = "") -> str:
    """Keys with numbers, strings, flags, lists of strings and mappings, in block style."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:\n", mapping(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [
                f"{indent}{key}:{'' if value else ' []'}\n",
                *(f"{indent}  - {_scalar(item)}\n" for item in value),
            ]
        else:
            lines.append(f"{indent}{key}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    """JSON's scalars are YAML's too; a name of some length with a letter in front needs no quotes."""
    if (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z][\w.,]{3,}", value)
        and value.lower() not in ("true", "false", "null")
    ):
        return value
    return json.dumps(value)
