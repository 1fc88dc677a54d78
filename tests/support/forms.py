"""The JSON that commands print, held against docs/reference/schemas.

check("run", document)             # AssertionError naming the path of what does not fit
form_of(["history", "--full"])     # "run"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

from structure import ROOT

FOLDER = ROOT / "docs/reference/schemas"
SCHEMAS: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
_ALL: Registry[Any] = Registry().with_resources(
    (f"{name}.json", Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)
_VALIDATORS = {name: Draft202012Validator({"$ref": f"{name}.json"}, registry=_ALL) for name in SCHEMAS}

_OF_COMMAND = {
    "score": "run",
    "show": "run",
    "recommend": "placement",
    "opinions": "opinions",
    "check": "check",
    "race": "race",
    "compare": "comparison",
    "history": "history",
    "env": "env",
    "doctor": "doctor",
    "registry status": "status",
}
_OF_OPTION = {"--list-modules": "modules", "--sql": "answer", "--full": "run", "--against": "against"}


def form_of(words: Sequence[str]) -> str:
    """The name of the schema that describes what a command prints as JSON."""
    for option, name in _OF_OPTION.items():
        if any(word == option or word.startswith(f"{option}=") for word in words):
            return name
    if words[0] == "history" and ("race" in words or "--kind=race" in words):
        return "races"
    return _OF_COMMAND[" ".join(words[:2]) if words[0] == "registry" else words[0]]


def asks_for_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, and for nothing else, on stdout."""
    formats = {value for option, value in pairwise(words) if option in ("--format", "-f")}
    formats |= {word.partition("=")[2] for word in words if word.startswith("--format=")}
    return formats == {"json"} or ("--json" in words and formats <= {"json"})


def check(name: str, document: Any) -> None:
    """A document, or each of an array of them, is of this form; AssertionError naming the first path that is not."""
    for at, each in enumerate(document) if isinstance(document, list) else ((None, document),):
        if error := best_match(_VALIDATORS[name].iter_errors(each)):
            where = error.json_path if at is None else f"$[{at}]{error.json_path[1:]}"
            raise AssertionError(f"not of docs/reference/schemas/{name}.json: {where}: {error.message[:500]}")


def check_output(words: Sequence[str], stdout: str) -> None:
    """What a command printed is of its form, where it was asked for JSON."""
    if not asks_for_json(words) or not stdout:
        return
    document = json.loads(stdout)
    name = form_of(words)
    if name == "run" and words[0] == "show" and "entries" in document:
        name = "race"
    check(name, document)
