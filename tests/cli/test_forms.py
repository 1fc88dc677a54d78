"""What is published of the JSON that commands print: docs/reference/schemas, and docs/reference/json.md about them.

Whatever a command prints in any test is held against its form by tests/conftest.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

import forms
from plop_cli.cli.app import app
from plop_registry import PartScore, Registry
from races import made_race
from structure import ROOT

MakeRun = Callable[..., Any]


def objects(schema: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas of objects with known keys in a schema, and where they are."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}.{key}")
    if isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from objects(value, f"{path}[{index}]")


def pointed(schema: Any, reference: str) -> Any:
    """What a reference to a definition, in this file or in another, points to."""
    file, _, path = reference.partition("#/$defs/")
    return (forms.SCHEMAS[file.removesuffix(".json")] if file else schema)["$defs"][path]


@pytest.mark.parametrize("name", forms.SCHEMAS)
def test_a_schema_is_sound_closed_and_says_what_each_value_is(name: str) -> None:
    schema = forms.SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["description"]
    for path, each in objects(schema):
        assert each["additionalProperties"] is False, path
        for key, value in each["properties"].items():
            assert value.get("description") or pointed(schema, value["$ref"])["description"], f"{path}.{key}"


def test_the_page_names_every_schema() -> None:
    page = (ROOT / "docs/reference/json.md").read_text()
    assert sorted(set(re.findall(r"\(schemas/([\w-]+)\.json\)", page))) == sorted(forms.SCHEMAS)


def test_exported_lines_are_of_their_forms(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        registry.add(*make_run(name="first", note="of two", model_path="/models/small"))
        registry.add(*make_run(1, parts=(PartScore("up_proj", "gate", 2, 1.0, 1.1, 0.1),)))
        registry.races.add(made_race({"plop": np.ones((2, 4)), "all": np.full((2, 4), np.nan)}))
    command = ["export", "-o", str(tmp_path / "all.jsonl"), "--registry", str(tmp_path / "registry.db")]
    assert CliRunner().invoke(app, command).exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    for line, name in zip(lines, ("exported-run", "exported-run", "exported-race"), strict=True):
        forms.check(name, line)


@pytest.fixture(scope="module")
def run(make_run: MakeRun) -> dict[str, Any]:
    return make_run()[0].to_dict() | {"run_id": "0" * 16}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda run: run.update(also=1), r"\$: Additional properties"),
        (lambda run: run["types"][1].update(also=1), r"\$\.types\[1\]: Additional properties"),
        (lambda run: run["task"].pop("tokens"), r"\$\.task: 'tokens' is a required"),
        (lambda run: run["modules"][0].update(nfn="1.2"), r"\$\.modules\[0\]\.nfn: '1\.2' is not of type"),
        (lambda run: run["modules"][0].update(nfn=-1.0), r"\$\.modules\[0\]\.nfn: -1\.0 is less"),
        (lambda run: run.update(run_id="latest"), r"\$\.run_id: 'latest' does not match"),
        (lambda run: run.update(confidence=1.5), r"\$\.confidence: 1\.5 is greater"),
    ],
)
def test_what_is_not_of_the_form_is_refused_and_its_path_named(run: dict[str, Any], change: Any, path: str) -> None:
    """So a key that is new in the code cannot be forgotten here."""
    forms.check("run", run)
    changed = deepcopy(run)
    change(changed)
    with pytest.raises(AssertionError, match=path):
        forms.check("run", changed)
    with pytest.raises(AssertionError, match=r"\$\[1\]"):
        forms.check("run", [run, changed])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("score demo -t sample/math --json", "run"),
        ("score demo --list-modules --json", "modules"),
        ("history --full -f json", "run"),
        ("history --kind race --format=json", "races"),
        ("history --sql SELECT -f json", "answer"),
        ("registry status -f json", "status"),
        ("recommend demo -f json -f peft", None),
        ("history -f jsonl", None),
        ("history", None),
    ],
)
def test_the_form_is_found_by_the_command(words: str, name: str | None) -> None:
    asked = forms.asks_for_json(words.split())
    assert asked == (name is not None)
    assert not asked or forms.form_of(words.split()) == name
