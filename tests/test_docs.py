"""What the pages for people name is there."""

from __future__ import annotations

import re
from keyword import iskeyword
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import generated
import plop_cli
from plop_cli.cli.app import app
from structure import ROOT

PAGES = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
TOP = "plop_cli|registry|tests|docs|experiments|benchmarks|templates"
WINGS = sorted(init.parent.name for init in (ROOT / "plop_cli").glob("*/__init__.py"))
HOMES = (
    ROOT,
    ROOT / "plop_cli",
    ROOT / "plop_cli/placement",
    ROOT / "registry",
    ROOT / "registry/plop_registry",
    ROOT / "experiments",
)


def wings() -> dict[str, set[str]]:
    """What docs/design.md names in the row of each wing that is a folder."""
    rows = re.findall(r"^\| `([\w./]+?)/?`[^|]*\|(.*)\|$", (ROOT / "docs/design.md").read_text(), re.MULTILINE)
    return {wing: set(re.findall(r"`([\w./]+?)/?`", text)) for wing, text in rows}


@pytest.mark.parametrize("wing", WINGS)
def test_the_map_names_every_module_of_a_wing(wing: str) -> None:
    modules = {file.stem for file in (ROOT / "plop_cli" / wing).glob("*.py")} - {"__init__"}
    if wing == "cli":  # a command's module is called as the command
        modules -= {f"{name}_" if iskeyword(name) else name for name in get_command(app).commands}
    assert modules - wings()[wing] == set()


def test_the_map_names_every_module_of_the_registry() -> None:
    modules = {file.stem for file in (ROOT / "registry/plop_registry").glob("*.py")} - {"__init__"}
    assert modules - wings()["plop_registry"] == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)]
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    named = re.findall(
        r"(?<![\w./:])((?:plop_cli|registry|tests|docs|experiments|benchmarks|templates)/[\w./-]+)", text
    )
    missing += [path for path in named if not (ROOT / path.rstrip(".")).exists()]
    if page == "docs/design.md":  # it calls modules as their wing's folder does
        inside = re.findall(r"`([a-z_]+/[a-z_/.]+?)/?`", text)
        missing += [path for path in inside if not any(exists(home / path) for home in HOMES)]
    assert missing == []


def test_the_reference_has_every_command_and_every_option() -> None:
    sections = re.split(r"^## ", "\n".join(generated.commands()), flags=re.MULTILINE)[1:]
    told = {section.partition("\n")[0]: set(re.findall(r"--[\w-]+", section)) for section in sections}
    commands = get_command(app).commands
    names = [*commands.keys() - {"registry"}, *(f"registry {name}" for name in commands["registry"].commands)]
    assert {f"plop {name}" for name in names} == told.keys()
    assert {"--samples", "--max-length", "--json", "--quiet", "--help"} <= told["plop score"]
    assert all("--help" in options for options in told.values())


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/reference/python.md").read_text()
    assert {*re.findall(r"^::: plop_cli\.(\w+)$", page, re.MULTILINE)} == {*plop_cli.__all__} - {"__version__"}


def test_the_page_of_the_registry_has_the_views_as_they_are() -> None:
    assert "\n".join(generated.views()) in (ROOT / "docs/registry.md").read_text()


def test_the_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert [author["family-names"] for author in citation["preferred-citation"]["authors"]] == ["Hayou", "Ghosh", "Yu"]
    assert "2506.20629" in citation["preferred-citation"]["url"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def exists(path: Path) -> bool:
    """Whether there is such a folder or file, or such a module."""
    return path.exists() or path.with_name(f"{path.name}.py").exists()
