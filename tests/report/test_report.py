"""`plop report`: what its pages hold, and that they hold nothing else; test_report_browser.py opens them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import webbrowser
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_cli.opinions.methods import METHODS
from plop_cli.report import story, vega
from plop_cli.report.charts import colour_steps
from plop_cli.report.figures import draw
from plop_cli.report.page import render_markdown
from plop_cli.report.palette import PALETTE
from plop_cli.report.story import tell
from plop_registry import ModuleValue, Registry
from report_runs import CASES, HOSTILE, START, page, page_of, store

GOLDEN = Path(__file__).parent.parent / "golden"
WRITE = os.environ.get("PLOP_GOLDEN") == "write"

Plop = Callable[..., Result]


class Page(HTMLParser):
    """What a page is made of: an outline of its headings, tables and figures, its specs, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.outline: list[str] = []
        self.specs: dict[str, dict[str, Any]] = {}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, list[str]] = {"style": [], "script": [], "title": []}
        self.text = ""
        self._label = self._open = ""
        self._rows: list[list[str]] = []
        self._into: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        attrs = {name: value or "" for name, value in attributes}
        self.tags.append((tag, attrs))
        self._open = "json" if "type" in attrs and tag == "script" else tag
        self._label = attrs.get("aria-label", self._label)
        if re.fullmatch("h[1-4]", tag):
            self._into = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        if re.fullmatch("h[1-4]", tag) and self._into is not None:
            self.outline.append(f"{'#' * int(tag[1])} {''.join(self._into)}")
            self._into = None
        elif tag == "table":
            head, first, *rest = self._rows
            self.outline += [f"table {self._label}: {_line(head)}", f"    {_line(first)} (of {len(rest) + 1})"]
            self._rows = []

    def handle_data(self, data: str) -> None:
        if self._open == "json":
            if "data" in (spec := json.loads(data)):
                self.specs[self._label] = spec
                rows = spec["data"]["values"]
                marks = "+".join(layer["mark"]["type"] for layer in spec.get("layer", [spec]))
                first = " ".join(f"{key}={value}" for key, value in sorted(rows[0].items()))
                self.outline += [f"figure {self._label}: {marks}", f"    {first} (of {len(rows)})"]
        elif self._open in self.inside:
            self.inside[self._open].append(data)
        else:
            self.text += data
            if self._into is not None:
                self._into.append(data)
            elif self._rows and self._rows[-1]:
                self._rows[-1][-1] = f"{self._rows[-1][-1]} {data}"


def _line(cells: list[str]) -> str:
    """A row of a table, without hashes, which the last bit of a number would change."""
    return re.sub(r"\b[0-9a-f]{8,}\b", "#", " | ".join(" ".join(cell.split()) for cell in cells))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry that is still empty."""
    return Registry(tmp_path / "registry.db")


@pytest.fixture
def plop(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plop:
    """`plop report …` on that registry, in the folder where it is."""
    monkeypatch.setenv("PLOP_REGISTRY", registry.url)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(START.timestamp())))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)


def failure(result: Result) -> str:
    """The one line on stderr of a command that failed."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def written(folder: Path) -> list[str]:
    """What is in a folder beside the registry."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("registry.db"))


# Content


@pytest.mark.parametrize("case", CASES)
def test_headings_tables_and_figures_are_pinned(case: str) -> None:
    outline = "".join(f"{line}\n" for line in Page(page(case)).outline)
    file = GOLDEN / f"report_{case}.txt"
    if WRITE:
        file.write_text(outline)
    assert outline == file.read_text()


def test_the_config_names_the_types_that_are_recommended(registry: Registry) -> None:
    store(registry, moved={"o_proj": -0.9})
    html = page_of(registry)
    assert registry.get("latest").recommended == ["o_proj", "v_proj", "up_proj"]
    assert 'target_modules=["o_proj", "up_proj", "v_proj"]' in Page(html).text


def test_a_type_whose_name_others_share_is_configured_by_what_tells_it_apart(registry: Registry) -> None:
    run = store(registry)
    renamed = {"v_proj": "self_attn.c_proj", "o_proj": "mlp.c_proj"}
    types = tuple(replace(score, type=renamed.get(score.type, score.type).removeprefix("self_")) for score in run.types)
    modules = tuple(
        replace(
            module,
            name=module.name.replace("self_attn.v_proj", "attn.c_proj").replace("self_attn.o_proj", "mlp.c_proj"),
            type=renamed.get(module.type, module.type).removeprefix("self_"),
        )
        for module in run.modules
    )
    other = Registry(str(registry.url) + "2")
    other.add(replace(run, id="", types=types, modules=modules), registry.matrix(run.id))
    assert 'target_modules=["attn.c_proj", "down_proj", "up_proj"]' in Page(page_of(other)).text


def test_checkpoints_are_ordered_by_step_and_the_last_is_the_answer() -> None:
    held = Page(page("time"))
    rows = held.specs["NFN over time: tuned on math"]["data"]["values"]
    assert list(dict.fromkeys(row["point"] for row in rows)) == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]
    adapted = {
        point: {row["type"] for row in rows if row["chosen"] and row["point"] == point}
        for point in ("checkpoint-30", "checkpoint-1000")
    }
    assert adapted == {
        "checkpoint-30": {"v_proj", "up_proj", "down_proj"},
        "checkpoint-1000": {"v_proj", "o_proj", "up_proj"},
    }
    assert 'target_modules=["o_proj", "up_proj", "v_proj"]' in held.text


def test_dtypes_of_a_model_are_told_apart(registry: Registry) -> None:
    for number, dtype in enumerate(("float32", "bfloat16")):
        store(registry, number=number, dtype=dtype)
    story = tell(registry.runs()[::-1], registry)
    assert story.models == ["org/llama float32", "org/llama bfloat16"]
    assert [comparison.by for _, comparison in story.comparisons] == ["model"]


def test_every_map_has_the_same_colours_and_they_are_centred_at_1() -> None:
    maps = [spec for label, spec in Page(page("models")).specs.items() if label.startswith("NFN-map")]
    bounds = {tuple(spec["encoding"]["color"]["scale"]["domain"]) for spec in maps}
    assert len(maps) == 3
    assert len(bounds) == 1
    low, high = (side := bounds.pop())[:5], side[5:]
    assert [a * b for a, b in zip(low, reversed(high), strict=True)] == pytest.approx([1] * 5, abs=1e-3)
    assert low[-1] < 1 < high[0]


def test_more_series_than_colours_are_drawn_in_equal_parts(registry: Registry) -> None:
    for number in range(9):
        store(registry, f"org/model-{number}", number=number, layers=1)
    held = Page(page_of(registry))
    series = {
        label: {row["series"] for row in spec["data"]["values"]}
        for label, spec in held.specs.items()
        if label.startswith("NFN by module type")
    }
    assert {label: len(names) for label, names in series.items()} == {
        "NFN by module type: math (1 of 2)": 5,
        "NFN by module type: math (2 of 2)": 4,
    }
    assert len(set.union(*series.values())) == 9


def test_one_odd_module_does_not_pale_the_others() -> None:
    assert max(colour_steps([0.8, 1.25] * 100 + [40])) < 1.25


def test_a_single_text_gives_a_page_without_intervals(registry: Registry) -> None:
    store(registry, samples=1)
    held = Page(page_of(registry))
    assert {row["low"] for row in held.specs["NFN by module type: org/llama on math"]["data"]["values"]} == {None}
    assert "cannot be told from fewer than 8 texts" in held.text
    assert not [label for label in held.specs if "over the texts" in label]


def test_types_narrow_what_is_drawn(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    CASES["time"](registry)
    assert plop("--type", "[qk]_proj").exit_code == 0
    drawn = Page((tmp_path / "report.html").read_text()).specs.values()
    types = {row["type"] for spec in drawn for row in spec["data"]["values"] if "type" in row}
    assert types == {"q_proj", "k_proj"}


def test_more_answers_than_can_be_drawn_are_in_the_tables_and_a_note_says_so(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "DRAWN", 3)
    CASES["many"](registry)
    held = Page(page_of(registry))
    maps = [label for label in held.specs if label.startswith("NFN-map")]
    assert maps == ["NFN-map: org/model-0 on math", "NFN-map: org/model-1 on history", "NFN-map: org/model-1 on logic"]
    assert "of the newest 3 of 8 answers" in " ".join(held.text.split())
    assert [line for line in held.outline if "(of 8)" in line]


# What a page may not do


@pytest.mark.parametrize("case", CASES)
def test_the_policy_lets_in_what_is_on_the_page_and_nothing_else(case: str) -> None:
    held = Page(page(case))
    policy = next(tag["content"] for name, tag in held.tags if tag.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))

    def hashes(texts: list[str]) -> str:
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    assert rules == {
        "default-src": "'none'",
        "script-src": hashes(held.inside["script"]),
        "style-src": hashes(held.inside["style"]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert len(held.inside["script"]) == 2
    assert len(held.inside["style"]) == 1


@pytest.mark.parametrize("case", CASES)
def test_nothing_comes_from_elsewhere(case: str) -> None:
    tags = Page(page(case)).tags
    elsewhere = {attrs[name] for _, attrs in tags for name in ("src", "href", "xlink:href", "action") if name in attrs}
    assert {link for link in elsewhere if not link.startswith(("#", "data:"))} == {"https://arxiv.org/abs/2506.20629"}
    assert not [attrs for _, attrs in tags if any(name.startswith("on") or name == "style" for name in attrs)]


def test_hostile_names_come_through_as_text(registry: Registry) -> None:
    held = Page(page("hostile"))
    assert len(held.inside["script"]) == 2
    for kind in ("page", "m", "t", "l 0", "l 1", "d", "w"):
        assert f"{kind} {HOSTILE}" in held.text, kind
    assert held.inside["title"] == [f"page {HOSTILE}"]
    series = {row.get("series") for spec in held.specs.values() for row in spec["data"]["values"]}
    assert series == {None, "math", f"t {HOSTILE}"}
    CASES["hostile"](registry)
    for figure in draw(tell(registry.runs(), registry)):
        for drawn in (vega.svg(figure.spec), vega.picture(figure.spec, "svg", figure.label)):
            tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(drawn).iter()}
            assert tags <= {"svg", "g", "path", "line", "rect", "text", "defs", "clipPath"}


def test_hostile_names_do_not_break_out_of_markdown(registry: Registry) -> None:
    store(registry, f"m {HOSTILE}\n# heading", f"t {HOSTILE}")
    text = render_markdown(tell(registry.runs(), registry), written=START, command="plop report")
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]
    fenced = re.compile(r"^(`{3,})plop\n(?:(?!\1).*\n)+\1$", re.MULTILINE)
    prose = [line for line in fenced.sub("", text).splitlines() if not line.startswith("    ")]
    assert not [line for line in prose if "<script" in line]
    rows = [re.sub(r"\\.", "", line).count("|") for line in prose if line.startswith("|")]
    assert all(len(set(table)) == 1 for table in _tables(rows, prose))


def _tables(rows: list[int], prose: list[str]) -> list[list[int]]:
    cells = iter(rows)
    groups = itertools.groupby(prose, key=lambda line: line.startswith("|"))
    return [[next(cells) for _ in lines] for is_table, lines in groups if is_table]


@pytest.mark.parametrize("case", CASES)
def test_every_spec_is_valid_vega_lite(case: str) -> None:
    for spec in Page(page(case)).specs.values():
        alt.Chart.from_dict(spec, validate=True)


def test_the_same_runs_give_the_same_bytes(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    CASES["tasks"](registry)
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-m", "plop_cli", "report", "-o", "one.html"], check=True, env=environment)
    assert plop("-o", "other.html").exit_code == 0
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = "import sys, plop_cli.report.page; print({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def _contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(theme: int) -> None:
    """Text 4.5 : 1, what is drawn 3 : 1; the digits on each step of the NFN-map too."""
    colours = {name: pair[theme] for name, pair in PALETTE.items()}
    digits = {f"d{step}": "strong" if step in (0, 1, 9, 10) else "ink" for step in range(11)}
    texts = [("ink", "page"), ("muted", "page"), ("chosen", "page"), ("ink", "panel"), ("muted", "panel")]
    for text, ground in [*texts, ("on-chosen", "chosen"), *((text, step) for step, text in digits.items())]:
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for drawn in ("rest", *(f"s{series}" for series in range(8))):
        assert _contrast(colours[drawn], colours["page"]) >= 3, drawn


# The command


def test_it_writes_where_it_is_told_and_says_so(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    CASES["many"](registry)
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webbrowser, "open", opened.append)
        result = plop("--model", "org/model-1", "--title", "Mine", "--theme", "dark", "-o", "mine.html", "--open")
    assert (result.stdout, result.stderr) == ("mine.html\n", "")
    held = Page((tmp_path / "mine.html").read_text())
    assert held.outline[0] == "# Mine"
    assert held.tags[0][1]["data-theme"] == "dark"
    assert "plop report --model org/model-1 --title Mine --theme dark" in held.text
    assert opened == [(tmp_path / "mine.html").as_uri()]
    assert written(tmp_path) == ["mine.html"]


def test_runs_are_given_by_id_and_the_first_is_what_others_are_compared_to(
    registry: Registry, plop: Plop, tmp_path: Path
) -> None:
    CASES["models"](registry)
    code, general = (registry.get(f"org/{name}/math").id for name in ("code", "general"))
    assert plop(code[:8], general, code).exit_code == 0
    held = Page((tmp_path / "report.html").read_text())
    assert held.outline[0] == "# Where LoRA belongs: 2 models on math"
    assert "table Comparison, math: type | org/code | org/general" in held.outline


def test_markdown_has_what_is_said(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    CASES["time"](registry)
    assert plop("-o", "report.md").stdout == "report.md\n"
    text = (tmp_path / "report.md").read_text()
    assert re.findall(r"^##? .*", text, re.MULTILINE) == [
        "# Where LoRA belongs: tuned on math",
        "## What to adapt",
        "## NFN by module type",
        "## Over time",
        "## Provenance",
    ]
    run = registry.get("tuned@checkpoint-1000/math")
    assert f"| v_proj | {run.types[0].nfn:.3f} ± {run.types[0].stderr:.3f} ● |" in text


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_figures_become_files(registry: Registry, plop: Plop, tmp_path: Path, form: str, magic: bytes) -> None:
    CASES["one"](registry)
    assert plop("--format", form).stdout == "figures\n"
    files = sorted((tmp_path / "figures").iterdir())
    assert [file.name for file in files] == [
        f"01-nfn-by-module-type-org-llama-on-math.{form}",
        f"02-nfn-map-org-llama-on-math.{form}",
        f"03-nfn-through-the-layers-org-llama-on-math.{form}",
        f"04-nfn-over-the-texts-org-llama-on-math.{form}",
    ]
    assert all(file.read_bytes().startswith(magic) for file in files)
    if form == "svg":
        assert "var(--" not in "".join(file.read_text() for file in files)


def test_a_damaged_run_is_told_and_the_rest_stands(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    CASES["tasks"](registry)
    damaged = registry.get("org/llama/code")
    with registry._database._engine.connect() as connection:
        chosen = f"run = (SELECT number FROM runs WHERE id = '{damaged.id}')"
        connection.execute(sa.text(f"UPDATE sample_matrices SET packed = x'00' WHERE {chosen}"))
        connection.commit()
    assert plop().exit_code == 0
    held = Page((tmp_path / "report.html").read_text())
    text = " ".join(held.text.split())
    assert "The sample matrix of 1 run cannot be read." in text
    assert f"Run {damaged.id[:8]} has no spread over texts: the sample matrix is damaged" in text
    assert "table Comparison, org/llama: type | math | history | logic" in held.outline
    bars = held.specs["NFN by module type: org/llama"]["data"]["values"]
    assert {row["series"] for row in bars} == {"math", "code", "history", "logic"}
    spread = held.specs["NFN over the texts: org/llama"]["data"]["values"]
    assert {row["series"] for row in spread} == {"math", "history", "logic"}


def test_bad_input_is_answered_with_a_remedy(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    assert "is empty; plop score adds runs" in failure(plop())
    CASES["one"](registry)
    assert failure(plop("--task", "mth")) == "plop: no run fits --task mth; did you mean 'math'?"
    assert "no run 'feed'" in failure(plop("feed"))
    assert failure(plop("latest", "--task", "math")) == "plop: RUN and --task cannot both choose; give one of them"
    missing = failure(plop("-o", "nowhere/report.html"))
    assert missing == "plop: there is no folder nowhere; make it first"
    assert failure(plop("-o", ".")) == "plop: . is a folder; give the path of a file in it"
    assert "cannot be a folder" in failure(plop("-f", "png", "-o", "registry.db"))
    assert failure(plop("-f", "png", "-o", "map.png")).endswith("give a folder, such as -o map")
    assert written(tmp_path) == []


def test_a_file_that_cannot_be_written_stays_as_it_was(
    registry: Registry, plop: Plop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CASES["one"](registry)
    kept = tmp_path / "report.html"
    kept.write_text("kept")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write anything
        assert "report.html (Permission denied" in failure(plop("--overwrite"))
    with monkeypatch.context() as patch:

        def full(self: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(Path, "replace", full)
        assert "report.html (No space left on device)" in failure(plop("--overwrite"))
    assert kept.read_text() == "kept"
    assert written(tmp_path) == ["report.html"]


def test_second_opinions_stand_in_plops_order_of_types(registry: Registry) -> None:
    CASES["opinions"](registry)
    (matrix,) = tell(registry.runs()[::-1], registry).opinions
    assert (matrix.model, matrix.tasks) == ("org/llama", ("math", "code"))
    rows = {row.method: row for row in matrix.rows}
    assert list(rows) == ["NFN", "NFN, squared", "condition number κ", "Spectrum's SNR", "explained variance"]
    assert [cell and cell.place for cell in rows["NFN"].cells] == [1, 2, 3, 4, 5, 6, 7]
    assert [cell and cell.chosen for cell in rows["NFN"].cells] == [True] * 3 + [False] * 4
    kappa, snr = rows["condition number κ"], rows["Spectrum's SNR"]
    assert (kappa.shared, kappa.tau) == ("0 of 3", "−1.00"), "1 / NFN, the lowest first"
    assert snr.cells[matrix.types.index("q_proj")] is None
    assert (snr.shared, snr.tau) == ("3 of 3", "+1.00"), "1 / NFN, the highest first"
    assert [cell.shade for cell in rows["NFN"].cells if cell] == [0, 1, 2, 2, 3, 4, 5]
    assert matrix.layers.startswith("Block influence tells layers apart: most have model.layers.3 (0.400)")
    assert matrix.left_out == (
        "Spectrum's SNR leaves out model.layers.0.self_attn.q_proj and 3 more: all of its weights are zero",
    )


def test_opinions_of_other_weights_or_of_one_task_alone_are_in_no_matrix(registry: Registry) -> None:
    CASES["opinions"](registry)
    bare = store(registry, task="logic", number=5)
    store(registry, "org/other", number=6)
    (matrix,) = tell(registry.runs()[::-1], registry).opinions
    assert (matrix.tasks, [row.method for row in matrix.rows][-1]) == (("math", "code", "logic"), "Spectrum's SNR")
    assert "explained variance was not asked for on logic" in matrix.left_out
    assert tell([bare], registry).opinions[0].tasks == ("logic",)


def test_revisions_of_a_model_are_not_averaged(registry: Registry) -> None:
    CASES["opinions"](registry)
    later = store(registry, task="math", number=7, model_revision="f" * 40)
    values = [ModuleValue(module.name, module.type, module.nfn) for module in later.modules]
    registry.opinions.keep_of_weights(later.model_revision, "float32", [METHODS["kappa"].opinion(values, seconds=1)])
    former, newer = sorted(tell(registry.runs()[::-1], registry).opinions, key=lambda matrix: matrix.tasks)
    assert (former.tasks, newer.tasks) == (("code",), ("math",)), "of each task the newest run"
    assert newer.model == "org/llama (ffffffff)"
    assert [row.tau for row in newer.rows if row.method == "condition number κ"] == ["+1.00"]
    assert [row.tau for row in former.rows if row.method == "condition number κ"] == ["−1.00"]


def test_what_was_asked_for_on_one_task_alone_is_said(registry: Registry) -> None:
    runs = [store(registry, task=task, number=number) for number, task in enumerate(("math", "code"))]
    values = [ModuleValue(module.name, module.type, 0.5) for module in runs[0].modules]
    registry.opinions.keep_of_run(runs[0].id, [METHODS["eva"].opinion(values, seconds=1)])
    (matrix,) = tell(runs, registry).opinions
    assert [row.method for row in matrix.rows] == ["NFN", "NFN, squared"]
    assert matrix.left_out == ("explained variance was not asked for on code",)


def test_a_method_without_types_that_may_be_adapted_is_not_said_to_tell_layers_apart(registry: Registry) -> None:
    run = store(registry, architecture="MambaForCausalLM")
    only = METHODS["snr"].opinion([ModuleValue("backbone.layers.0.out_proj", "out_proj", 8.5)], seconds=1)
    registry.opinions.keep_of_weights(run.model_revision, "float32", [only])
    assert tell([run], registry).opinions[0].layers == ""
    blocks = [ModuleValue(f"backbone.layers.{layer}", "", 0.1 * layer) for layer in range(4)]
    registry.opinions.keep_of_run(run.id, [METHODS["influence"].opinion(blocks, seconds=1)])
    assert "most have backbone.layers.3 (0.300)" in tell([run], registry).opinions[0].layers


def test_markdown_has_a_short_table_of_opinions(registry: Registry, plop: Plop, tmp_path: Path) -> None:
    CASES["opinions"](registry)
    assert plop("-o", "report.md").exit_code == 0
    text = (tmp_path / "report.md").read_text()
    assert "## Second opinions" in text
    assert "| method | v_proj | up_proj | down_proj | o_proj | gate_proj | q_proj | k_proj | shared | τ |" in text
    assert "| condition number κ | 7 | 6 | 5 | 4 | 3 ● | 2 ● | 1 ● | 0 of 3 | −1.00 |" in text
    assert "| Spectrum's SNR | 1 ● | 2 ● | 3 ● | 4 | 5 | – | 6 | 3 of 3 | +1.00 |" in text
