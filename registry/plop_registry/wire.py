"""What a line of an exported file must be, before anything of it is believed. pydantic checks it, which SQLModel needs.

Nothing is converted, nothing may be missing or too much, integers fit their columns, and no name has characters that
a terminal obeys.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from plop_registry.errors import RegistryError

_OBEYED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # a task's template may have tabs and line ends


def _text(text: str) -> str:
    if _OBEYED.search(text):
        raise ValueError("it has control characters")
    return text


def _plain(value: Any) -> Any:
    """Settings: nested at will, with the same texts, and numbers that other programs can read."""
    if isinstance(value, str):
        _text(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("it is beyond 64 bits")
    elif isinstance(value, dict):
        _plain([*value, *value.values()])
    elif isinstance(value, list):
        for each in value:
            _plain(each)
    return value


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).year < 1970:
        raise ValueError("it is before 1970")
    return text


Text = Annotated[str, AfterValidator(_text)]
Settings = Annotated[dict[str, JsonValue], AfterValidator(_plain)]
Moment = Annotated[str, AfterValidator(_moment)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Model(TypedDict):
    id: Text
    revision: Text
    label: Text
    architecture: Text
    dtype: Text


class _Task(TypedDict):
    id: Text
    revision: Text
    texts_hash: Text
    samples: Count
    tokens: Count


class _Score(TypedDict):
    type: Text
    nfn: Number | None
    nfn_squared: Number | None
    stderr: Number | None


class _Type(_Score):
    modules: Count
    recommended: bool
    confidence: Share | None


class _Module(_Score):
    name: Text
    layer: Count | None
    in_features: Count
    out_features: Count
    tokens: Count


class _Part(_Score):
    part: Text
    modules: Count


class _Skipped(TypedDict):
    name: Text
    reason: Text


class _Paths(TypedDict, total=False):
    model: Text
    adapter: Text
    task: Text


class _Without(TypedDict, total=False):
    parts: list[_Part]
    name: Text
    note: Text
    paths: _Paths


class _Line(_Without):
    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]

    format: Annotated[int, Field(ge=1, le=1)]
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    key: Text
    created_at: Moment
    model: _Model
    task: _Task
    settings: Settings
    plop_version: Text
    versions: dict[Text, Text]
    device: Text
    duration: Number
    confidence: Share | None
    types: list[_Type]
    modules: list[_Module]
    skipped: list[_Skipped]
    warnings: list[Text]
    matrix: str


_LINE = TypeAdapter(_Line)


def parsed(adapter: TypeAdapter[Any], line: str, kind: str) -> dict[str, Any]:
    """The content of a line of this kind; RegistryError saying where it is none."""
    try:
        return dict(adapter.validate_json(line))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        if any(problem["loc"] == ("format",) and problem["type"] != "missing" for problem in problems):
            raise RegistryError("written by another plop; pip install --upgrade plop-cli") from None
        where = ".".join(map(str, problems[0]["loc"]))[:80]
        raise RegistryError(f"not an exported {kind} ({where or 'the line'}: {problems[0]['msg']})") from None
    except ValueError as error:  # a line that is no Unicode
        raise RegistryError(f"not an exported {kind}") from error


def read(line: str) -> dict[str, Any]:
    """The content of a run's line; RegistryError saying where it is none."""
    content = parsed(_LINE, line, "run")
    for what, names in (
        ("two modules", [module["name"] for module in content["modules"]]),
        ("two types", [score["type"] for score in content["types"]]),
        ("two parts", [(part["type"], part["part"]) for part in content.get("parts", ())]),
    ):
        if len(set(names)) < len(names):
            raise RegistryError(f"not an exported run ({what} have one name)")
    if not {part["type"] for part in content.get("parts", ())} <= {score["type"] for score in content["types"]}:
        raise RegistryError("not an exported run (a part is of no type)")
    return content
