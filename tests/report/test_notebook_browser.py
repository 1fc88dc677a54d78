"""Values as a real browser shows them, light and dark, and progress in a real kernel."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plop_cli import PlopError, compare_runs, list_runs, recommend_runs
from plop_registry import Registry
from races import made_race
from report_runs import store

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
GROUNDS = {"light": ("#ffffff", "#111111"), "dark": ("#111111", "#dddddd")}


def missing(what: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a notebook is given of each value."""
    race = made_race({"PLoP": np.ones((2, 5)), "MLP": np.full((2, 5), 1.5)})
    with Registry(tmp_path_factory.mktemp("notebook") / "registry.db") as registry:
        model = "org/SmolLM2-135M-Instruct"
        ids = [store(registry, model, task=task, number=n).id for n, task in enumerate(("math", "code"))]
        values: dict[str, Any] = {
            "run": registry.get(ids[0]),
            "runs": list_runs(registry=registry),
            "comparison": compare_runs(*ids, registry=registry),
            "placement": recommend_runs(ids[0], registry=registry),
            "race": race,
            "race that nobody has run": dataclasses.replace(race, entries=(), laps=()),
        }
        return {name: value._repr_html_() for name, value in values.items()}


@pytest.mark.parametrize("ground", GROUNDS)
def test_everybody_can_read_it_and_it_fits_into_a_notebook(shown: dict[str, str], ground: str, tmp_path: Path) -> None:
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("neither Playwright nor axe-core here (the group dev has them)")
    if not CHROMIUM.exists():
        missing("no Chromium here (apt-get install chromium)")
    back, ink = GROUNDS[ground]
    cells = "".join(f"<section>{html}</section>" for html in shown.values())
    page = f'<!doctype html><html lang="en"><title>notebook</title><main><h1>Notebook</h1>{cells}</main>'
    page += f"<style>body {{ background: {back}; color: {ink}; font-family: sans-serif }}</style></html>"
    (tmp_path / "notebook.html").write_text(page)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        opened = browser.new_page(viewport={"width": 900, "height": 800})
        opened.goto((tmp_path / "notebook.html").as_uri())
        found = Axe().run(opened).response["violations"]
        wide = "[...document.querySelectorAll('.plop')].filter((each) => each.scrollWidth > each.clientWidth).length"
        assert opened.evaluate(wide) == 0
        browser.close()
    assert [(each["impact"], each["id"]) for each in found] == []


def test_a_race_that_nobody_has_run_is_shown_and_not_drawn(shown: dict[str, str]) -> None:
    assert "Nobody has raced yet." in shown["race that nobody has run"]
    race = dataclasses.replace(made_race({"MLP": np.ones((2, 5))}), entries=(), laps=())
    for draw in (race.chart, race.map):
        with pytest.raises(PlopError, match="nothing to draw"):
            draw()


@pytest.mark.parametrize("renderer", ["svg", "png", "mimetype", "json"])
def test_charts_are_shown_by_renderers_that_need_no_network(renderer: str) -> None:
    import altair as alt

    chart = made_race({"PLoP": np.ones((2, 5)), "MLP": np.full((2, 5), 1.5)}).chart()
    with alt.renderers.enable(renderer):
        bundle = chart._repr_mimebundle_(None, None)
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert bundle
    assert not any("cdn." in str(value) for value in bundle.values())


CELL = """
{before}
from plop_cli.bar import notebook_bar
from plop_cli.progress import says
@notebook_bar()
def work():
    says("hashing <b>")
    says("scoring", 3, 12, "tokens")
work()
"""


@pytest.mark.parametrize(("before", "kind"), [("", "widget"), ("import sys; sys.modules['ipywidgets'] = None", "html")])
def test_progress_in_a_notebook_is_a_bar_that_goes(before: str, kind: str) -> None:
    try:
        import ipykernel  # noqa: F401
        import nbclient
        import nbformat
    except ModuleNotFoundError:
        missing("no notebook here (the group dev has nbclient and ipykernel)")
    told: list[str] = []
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.format(before=before))])

    class Client(nbclient.NotebookClient):  # type: ignore[misc]
        def process_message(self, message: Any, cell: Any, index: int) -> Any:
            told.append(str(message["content"]))
            return super().process_message(message, cell, index)

    Client(notebook, timeout=120, kernel_name="python3").execute()
    said = "\n".join(told)
    assert "scoring: 3 of 12 tokens" in said
    (output,) = notebook.cells[0].outputs
    if kind == "html":
        assert "hashing &lt;b&gt;" in said
        assert output.data["text/html"] == "", "nothing of it is left"
    else:
        assert "FloatProgress" in said


def test_elsewhere_no_bar_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    from plop_cli.bar import notebook_bar
    from plop_cli.progress import is_watched, says

    with notebook_bar():
        says("scoring", 1, 2, "texts")
        assert not is_watched()
    assert capsys.readouterr() == ("", "")
