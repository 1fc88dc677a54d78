"""The house: imports point one way, nothing is longer than it should be, and the map tells what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from structure import LONGEST, ORDER, Import, against_the_order, circles, functions, imports, modules, wing_of

KNOWN = modules()
EDGES = imports(KNOWN)


def planted(tmp_path: Path, files: dict[str, str]) -> list[Import]:
    """The imports of a project that consists of these files."""
    for name, source in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return imports(modules(tmp_path))


def test_no_import_is_against_the_order() -> None:
    assert [str(edge) for edge in against_the_order(EDGES)] == []


def test_no_modules_import_each_other() -> None:
    assert [[str(edge) for edge in circle] for circle in circles(EDGES)] == []


def test_every_module_of_the_product_has_its_place_in_the_order() -> None:
    wings = {wing for row in ORDER for wing in row}
    assert {wing_of(name) for name in KNOWN} - wings == {"experiments"}


@pytest.mark.parametrize(
    "hidden",
    ["{}", "def lazily():\n    {}", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}"],
    ids=["plain", "in a function", "for types alone"],
)
def test_a_planted_violation_is_found_and_its_line_named(tmp_path: Path, hidden: str) -> None:
    edges = planted(
        tmp_path,
        {
            "plop_cli/__init__.py": "",
            "plop_cli/method/nfn.py": hidden.format("from plop_cli.scoring.score import score"),
            "plop_cli/scoring/score.py": "from plop_cli.method import nfn",
        },
    )
    line = hidden.count("\n") + 1
    named = f"plop_cli/method/nfn.py:{line} imports plop_cli.scoring.score"
    assert [str(edge) for edge in against_the_order(edges)] == [named]
    assert [[str(edge) for edge in circle] for circle in circles(edges)] == [
        [named, "plop_cli/scoring/score.py:1 imports plop_cli.method.nfn"]
    ]


def test_a_subpackage_holds_its_docstring_alone() -> None:
    """An import there would be paid by whoever imports any part of it."""
    packages = [file for name, file in KNOWN.items() if file.name == "__init__.py" and name.startswith("plop_cli.")]
    assert len(packages) > 10
    assert [file for file in packages if "import" in file.read_text()] == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = [f"{name}, {length} lines" for length, name, _ in functions(KNOWN) if length > LONGEST]
    assert long == []
