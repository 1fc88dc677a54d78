"""What must start fast does not import what is slow."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = "{'torch', 'transformers', 'datasets', 'peft', 'pandas'}"


@pytest.mark.parametrize(
    "module",
    [
        "plop_cli",
        "plop_cli.cli.app",
        "plop_cli.runs.grid",
        "plop_cli.library",
        "plop_cli.models.source",
        "plop_cli.texts.tasks",
        "plop_cli.comparison.compare",
        "plop_cli.placement.recommend",
        "plop_cli.report.page",
        "plop_cli.tables.history",
        "plop_cli.tables.run",
        "plop_cli.method.estimates",
        "plop_registry",
    ],
)
def test_it_imports_neither_torch_nor_transformers(module: str) -> None:
    probe = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_a_story_is_told_without_what_draws_it() -> None:
    probe = "import sys, plop_cli.report.story; print(sorted({'altair', 'vl_convert', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_the_public_names_are_advertised_and_come_at_first_use() -> None:
    import plop_cli

    assert dir(plop_cli) == sorted(plop_cli.__all__)
    for name in set(dir(plop_cli)) - {"__version__"}:
        assert callable(getattr(plop_cli, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = plop_cli.nonesuch
