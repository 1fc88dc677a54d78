"""What a notebook shows: every value has a small table that nothing can break out of, and Altair charts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plop_cli import PlopError, compare_runs, list_runs, recommend, recommend_runs, score
from plop_registry import Registry
from races import made_race
from report_runs import HOSTILE, store
from small_models import byte_tokenizer, qwen2

CONTROL = "\x1b[31m\u202e"
NAME = f"{HOSTILE}{CONTROL}"


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with Registry(tmp_path_factory.mktemp("notebook") / "registry.db") as registry:
        ids = [store(registry, NAME, task=f"{task} {NAME}", number=n).id for n, task in enumerate(("math", "code"))]
        scores = score(qwen2(), byte_tokenizer(), [f"text number {number}" for number in range(8)])
        yield {
            "run": registry.get(ids[0]),
            "runs": list_runs(registry=registry),
            "comparison": compare_runs(*ids, registry=registry),
            "stored placement": recommend_runs(ids[0], registry=registry),
            "scores": scores,
            "placement": recommend(scores),
            "race": made_race({f"PLoP {NAME}": np.ones((2, 5)), "MLP": np.full((2, 5), 1.5)}),
        }


KINDS = ("run", "runs", "comparison", "stored placement", "scores", "placement", "race")


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_a_small_table_without_script_or_network(values: dict[str, Any], kind: str) -> None:
    shown = values[kind]._repr_html_()
    tags = {tag.lower() for tag in re.findall(r"<\s*/?\s*(\w+)", shown)}
    assert tags <= {"div", "style", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "i", "s", "p"}
    assert not re.search(r"url\(|https?:|@import|\x1b|\u202e", shown)
    assert 500 < len(shown) < 20_000


@pytest.mark.parametrize("draw", ["chart", "map"])
@pytest.mark.parametrize("kind", KINDS)
def test_its_charts_are_altairs_and_are_written_without_network(
    values: dict[str, Any], kind: str, draw: str, tmp_path: Path
) -> None:
    chart = getattr(values[kind], draw)()
    assert type(chart).__module__.startswith("altair.")
    chart.to_dict()  # held against the schema of Vega-Lite
    chart.save(tmp_path / "chart.svg")
    assert "<svg" in (tmp_path / "chart.svg").read_text()
    assert "var(--" not in (tmp_path / "chart.svg").read_text()


def test_a_run_of_a_listing_has_no_map_and_says_why(values: dict[str, Any]) -> None:
    with pytest.raises(PlopError, match="without its modules"):
        values["runs"][0].map()


def test_where_nothing_draws_a_run_is_text_and_its_chart_is_refused() -> None:
    probe = """if True:
        from plop_registry import RegistryError
        from plop_registry.shown import Shown
        assert Shown()._repr_html_() is None
        try: Shown().chart()
        except RegistryError as error: print(error)"""
    said = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    assert said == "charts are drawn by plop_cli; import plop_cli first\n"
