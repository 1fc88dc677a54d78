"""The report in a real browser, with the network cut: everything is drawn, everything works, everybody can read it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import report_runs
from report_runs import CASES, HOSTILE

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        sync_playwright = None
    if sync_playwright is None or not CHROMIUM.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium here (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a case; says at the end of the test that nothing was asked for and nothing complained."""
    contexts, heard = [], []

    def show(case: str, *, width: int = 1280, scripts: bool = True, **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, java_script_enabled=scripts, offline=True, **options
        )
        contexts.append(context)
        file = tmp_path / f"{case}.html"
        file.write_text(report_runs.page(case))
        address = file.as_uri()
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith((address, "data:")) or heard.append(request.url))
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        return page

    yield show
    for context in contexts:
        context.close()
    assert heard == []


def draw_all(page: Any) -> None:
    """Scroll down until every chart has been drawn."""
    page.evaluate(
        """async () => {
          const waiting = () => [...document.querySelectorAll(".chart")].filter(
            (chart) => !chart.querySelector(".live:not(.drawing)") && chart.offsetParent);
          for (let round = 0; round < 400 && waiting().length; round++) {
            waiting()[0].scrollIntoView();
            await new Promise((done) => setTimeout(done, 25));
          }
          scrollTo(0, 0);
        }"""
    )


MARKS = """() => [...document.querySelectorAll(".chart")].map((chart) => ({
  label: chart.getAttribute("aria-label"),
  live: chart.querySelectorAll(".live:not(.drawing)").length,
  spec: JSON.parse(chart.nextElementSibling.textContent),
  marks: Object.fromEntries(["rect", "text", "symbol", "line"].map((mark) => [
    mark, [...chart.querySelectorAll(`.mark-${mark}.role-mark :is(path, text)`)].filter(
      (drawn) => drawn.tagName === "path" || drawn.textContent).length])),
}))"""


def marks_of(figure: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """How many marks of each kind a chart has, and how many its rows ask for."""
    spec, rows = figure["spec"], figure["spec"]["data"]["values"]
    types = len({row["type"] for row in rows}) if "type" in rows[0] else 0
    series = len({row.get("series") for row in rows})
    kind = "+".join(layer["mark"]["type"] for layer in spec.get("layer", [spec]))
    wanted = {
        "bar+rule+rule+text": {"rect": len(rows), "text": sum(bool(row.get("mark")) for row in rows)},
        "rule+rule+bar+point": {"rect": len(rows), "symbol": len(rows)},
        "rect": {"rect": len(rows)},
        "rect+text": {"rect": len(rows), "text": len(rows)},
        "line+rule+point+text": {"line": types, "symbol": len(rows), "text": types},
        "line+rule+point": {"line": series},
        "line+point": {"line": series},
    }[kind]
    return {mark: figure["marks"][mark] for mark in wanted}, wanted


@pytest.mark.parametrize("case", CASES)
def test_every_chart_is_drawn_with_all_its_marks(show: Open, case: str) -> None:
    page = show(case)
    draw_all(page)
    figures = page.evaluate(MARKS)
    assert len(figures) > 8
    for figure in figures:
        assert figure["live"] == 1, figure["label"]
        drawn, wanted = marks_of(figure)
        assert drawn == wanted, figure["label"]


def test_without_scripts_the_answer_the_figures_and_the_tables_are_there(show: Open) -> None:
    page = show("tasks", scripts=False)
    assert page.locator(".picks b").all_inner_texts() == ["v_proj", "up_proj", "down_proj"]
    assert "LoraConfig(" in page.locator(".config pre").inner_text()
    stills = re.findall(r'<div class="chart".*?</svg>', report_runs.page("tasks"), re.DOTALL)
    assert page.locator(".chart svg:visible").count() == len(stills) == 13
    assert page.locator("#maps .mark-rect path").count() == 4 * 4 * 7
    assert page.locator("#types .mark-rect path").count() == 4 * 7
    assert page.locator("table").count() == 9
    assert page.locator("#comparison tbody tr").count() == 7
    assert page.locator("button:visible, select:visible").count() == 0


def test_hovering_over_a_cell_of_the_map_shows_its_value(show: Open) -> None:
    page = show("one")
    draw_all(page)
    cell = page.evaluate(f"({MARKS})().find((figure) => figure.label.startsWith('NFN-map')).spec.data.values[9]")
    page.locator("#maps .mark-rect path").nth(9).scroll_into_view_if_needed()
    box = page.locator("#maps .mark-rect path").nth(9).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tooltip = page.locator("#vg-tooltip-element.visible").inner_text()
    assert re.sub(r"\s+", " ", tooltip).strip() == f"layer {cell['layer']} type {cell['type']} NFN {cell['nfn']:.3f}"


def test_a_click_on_a_heading_sorts_and_another_turns_the_order_round(show: Open) -> None:
    page = show("tasks")
    table = page.locator("#comparison table")
    heading = table.locator("th", has_text="code")

    def column() -> list[float]:
        return [
            float(re.search(r"\d\.\d+", text)[0]) for text in table.locator("tbody td:nth-child(3)").all_inner_texts()
        ]

    for order, reverse in (("ascending", False), ("descending", True)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == order
        assert column() == sorted(column(), reverse=reverse)
    table.locator("th button").first.click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names)
    assert heading.get_attribute("aria-sort") is None


def test_filters_leave_what_is_of_the_chosen_model_and_task(show: Open) -> None:
    page = show("many")
    assert page.locator("#time").is_visible()
    page.get_by_role("combobox", name="Model").select_option(label="org/model-1")
    page.get_by_role("combobox", name="Task").select_option(label="code")
    assert page.locator("#maps h3:visible").all_inner_texts() == ["org/model-1 on code"]
    assert page.locator("#answer tbody tr:visible").count() == 1
    assert not page.locator("#time").is_visible()
    assert not page.get_by_role("link", name="Over time").is_visible()
    draw_all(page)
    assert page.locator("#maps .live:visible .mark-rect path").count() == 28
    page.get_by_role("combobox", name="Model").select_option(label="all")
    assert page.locator("#answer tbody tr:visible").count() == 2
    assert show("tasks").locator("select:visible").count() == 0


def test_the_button_copies_the_config(show: Open) -> None:
    page = show("one", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    scope: dict[str, Any] = {}
    exec(copied.replace("from peft import LoraConfig", "LoraConfig = dict"), scope)
    assert scope["config"]["target_modules"] == ["down_proj", "up_proj", "v_proj"]


def test_where_the_clipboard_is_out_of_reach_the_config_is_selected(show: Open) -> None:
    page = show("one")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Selected").wait_for()
    assert page.evaluate("getSelection().toString()").startswith("from peft import LoraConfig")


COLOURS = """() => [
  getComputedStyle(document.body).backgroundColor,
  getComputedStyle(document.querySelector("#maps .mark-rect path")).fill,
  getComputedStyle(document.querySelector("#types .role-axis-label text")).fill]"""


def test_dark_mode_changes_the_page_and_its_charts_and_print_is_light(show: Open) -> None:
    page = show("one", color_scheme="light")
    draw_all(page)
    light = page.evaluate(COLOURS)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(COLOURS)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(COLOURS) == light
    assert light[0] == "rgb(255, 255, 255)"
    assert show("one", color_scheme="dark", scripts=False).locator("body").evaluate(COLOURS) == dark


def test_hostile_names_are_shown_as_they_are(show: Open) -> None:
    page = show("hostile")
    assert page.title() == " ".join(f"page {HOSTILE}".split())
    assert page.locator("h1").inner_text() == f"page {HOSTILE}"
    assert page.locator("article h3").inner_text() == f"m {HOSTILE}"
    draw_all(page)
    points = page.locator("#time .live .role-axis-label text").all_text_contents()
    assert [text for text in points if text.startswith("l 0 </script><scr")]
    page.locator("#time .live .mark-symbol path").first.hover()
    assert f"at l 0 {HOSTILE}" in re.sub(r"\s+", " ", page.locator("#vg-tooltip-element").inner_text())


@pytest.mark.parametrize(("case", "scripts"), [*((case, True) for case in CASES), ("models", False)])
def test_a_phone_needs_no_scrolling_to_the_side(show: Open, case: str, scripts: bool) -> None:
    page = show(case, width=390, scripts=scripts)
    if scripts:
        draw_all(page)
    width = "document.scrollingElement.scrollWidth"
    assert page.locator("body").evaluate(f"() => {width}") <= 390
    if scripts:
        assert page.evaluate("[...document.querySelectorAll('.live svg')].every((svg) => svg.clientWidth <= 358)")


READABLE = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => parse(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((parse(colour)[3] ?? 1) > 0) return colour;
    }
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest("script")) continue;
    const drawn = element instanceof SVGElement;
    if (drawn && element.closest("#maps .role-mark")) continue; // digits on colours: test_report.py has these
    const style = getComputedStyle(element);
    const [dark, light] = [drawn ? style.fill : style.color, ground(element)].map(luminance).sort((a, b) => a - b);
    if ((light + 0.05) / (dark + 0.05) < 4.5) faint.push(element.outerHTML.slice(0, 120));
  }
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((heading) => +heading.tagName[1]);
  const named = (element) => element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length;
  const nameless = [...document.querySelectorAll("button, select, a, [role=img], [role=region], nav")]
    .filter((element) => !named(element));
  const cells = [...document.querySelectorAll("th:not([scope])")];
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  const stuck = [...document.querySelectorAll("main *")].filter((element) =>
    element.checkVisibility() && element.scrollWidth > element.clientWidth + 1 &&
    ["auto", "scroll"].includes(getComputedStyle(element).overflowX) && element.tabIndex < 0);
  return {
    faint, nameless: nameless.length, unscoped: cells.length,
    language: document.documentElement.lang,
    skipped: levels.filter((level, i) => level > (levels[i - 1] ?? 0) + 1),
    doubled: ids.filter((id, i) => ids.indexOf(id) !== i),
    unreachable: stuck.map((element) => element.outerHTML.slice(0, 120)),
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("case", ["tasks", "time", "opinions"])
def test_everybody_can_read_it(show: Open, case: str, scheme: str) -> None:
    page = show(case, color_scheme=scheme, bypass_csp=True)
    draw_all(page)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate(READABLE) == {
        "faint": [],
        "nameless": 0,
        "unscoped": 0,
        "language": "en",
        "skipped": [],
        "doubled": [],
        "unreachable": [],
    }
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert [(each["impact"], each["id"]) for each in axe.run(page).response["violations"]] == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (900, "light"), (900, "dark")])
def test_ranks_of_second_opinions_have_numbers_colours_and_room(show: Open, width: int, scheme: str) -> None:
    """The first choice is told from the last by its number and by its colour; the table scrolls by itself."""
    page = show("opinions", width=width, scripts=False, color_scheme=scheme)
    assert page.locator("body").evaluate("() => document.documentElement.scrollWidth") <= width
    table = page.locator("#opinions table.ranks")
    assert table.locator("tbody tr").count() == 5
    cells = table.locator("tbody tr").first.locator("td[class*=' k']")
    assert [text.removeprefix("● ").split()[0] for text in cells.all_inner_texts()] == list("1234567")
    looks = cells.evaluate_all(
        "cells => cells.map(cell => [getComputedStyle(cell).backgroundColor, getComputedStyle(cell).color])"
    )
    assert len({ground for ground, _ in looks}) == 6, "seven places in six shades"
    assert all(ground != ink for ground, ink in looks)
    room = page.locator("#opinions .scroll")
    assert room.get_attribute("tabindex") == "0"
    assert (room.evaluate("each => each.scrollWidth <= each.clientWidth")) == (width == 900)
