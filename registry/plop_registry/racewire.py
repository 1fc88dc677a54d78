"""What a line of an exported race must be, before anything of it is believed; as `wire` has it for runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from plop_registry.errors import RegistryError
from plop_registry.wire import Count, Moment, Number, Settings, Text, parsed

Whole = Annotated[int, Field(ge=1, lt=2**31)]


class _Entry(TypedDict):
    name: Text
    adapters: Text
    types: list[Text]
    modules: Count
    rank: Whole
    alpha: Whole
    parameters: Annotated[int, Field(ge=1, lt=2**63)]
    config: Settings


class _Lap(TypedDict):
    adapters: Text
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seed: Count
    steps: Whole
    seconds: Number
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    packed: str


class _Line(TypedDict):
    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]

    format: Annotated[int, Field(ge=1, le=1)]
    race_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created_at: Moment
    model_id: Text
    model_revision: Text
    model_label: Text
    architecture: Text
    dtype: Text
    data_id: Text
    data_hash: Text
    train: Count
    validation: Count
    test: Count
    settings: Settings
    nfn: dict[Text, Number]
    plop_version: Text
    versions: dict[Text, Text]
    device: Text
    entries: list[_Entry]
    laps: list[_Lap]


_LINE = TypeAdapter(_Line)


def read(line: str) -> dict[str, Any]:
    """The content of a line; RegistryError saying where it is none."""
    content = parsed(_LINE, line, "race")
    keys = [(lap["adapters"], lap["rate"], lap["seed"], lap["steps"]) for lap in content["laps"]]
    if len(set(keys)) < len(keys):
        raise RegistryError("not an exported race (two laps are the same)")
    if not {lap["adapters"] for lap in content["laps"]} <= {entry["adapters"] for entry in content["entries"]}:
        raise RegistryError("not an exported race (a lap is of no contestant)")
    del content["format"]
    return content
