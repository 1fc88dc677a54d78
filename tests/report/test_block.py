"""The plop block of a model card: written by a report, held against a run by `plop show --against`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from plop_cli.cli.app import app
from plop_cli.report.block import block, block_of, differences
from plop_cli.report.page import COMMENT
from plop_registry import Registry, Run

HOSTILE = "````\n```plop\nmodel: x\n~~~ : 'a\" # {b} \x1b[31m <img> | é 0"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty one, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    return Registry(tmp_path / "registry.db")


@pytest.fixture
def run(registry: Registry, make_run: Callable[..., Any]) -> Run:
    return registry.add(*make_run())


def plop(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_a_report_is_a_card_that_says_what_its_runs_say(registry: Registry, make_run: Callable[..., Any]) -> None:
    for seed, task in enumerate(("gsm8k", "mbpp")):
        registry.add(*make_run(seed, task_id=task))
    assert plop("report", "--format", "md", "-o", "README.md").exit_code == 0
    assert 'task_type="CAUSAL_LM",' in Path("README.md").read_text()
    for task in ("gsm8k", "mbpp"):
        done = plop("show", f"org/small/{task}", "--against", "README.md")
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.startswith("README.md says what run ")
    told = json.loads(plop("show", "latest", "--against", "README.md", "-f", "json").stdout)
    assert (told["same"], told["differences"]) == (True, [])


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("samples: 3", "samples: 64", ["samples: 64 in README.md, 3 in run "]),
        ("revision: ", "revision: f", ["revision: f0123456789abcdef in README.md, 0123456789abcdef in run "]),
        ("texts: ab", "texts: cd", ["texts: cdab"]),
        ("q_proj: 1.", "q_proj: 9.", ["nfn.q_proj: 9."]),
        ("q_proj: 1.", "other: 1.", ["nfn.other: 1.", "nfn.q_proj: nothing in README.md, 1."]),
    ],
)
def test_each_field_that_differs_is_said(run: Run, old: str, new: str, lines: list[str]) -> None:
    run = replace(run, types=tuple(replace(each, nfn=1.0 + each.nfn % 1) for each in run.types))
    with Registry(None) as registry:
        run = registry.add(replace(run, id="", key="1" * 64), registry.matrix(registry.runs()[0].id))
    assert old in block(run)
    Path("README.md").write_text(block(run).replace(old, new))
    done = plop("show", run.id, "--against", "README.md")
    assert done.exit_code == 1
    said = done.stdout.splitlines()
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))
    told = json.loads(plop("show", run.id, "--against", "README.md", "-f", "json").stdout)
    assert len(told["differences"]) == len(lines)


def test_rounding_is_no_difference_and_another_run_of_the_same_is_noted(run: Run) -> None:
    card = block_of(block(run), run, "README.md")
    name, nfn = run.types[0].type, run.types[0].nfn
    for shift, same in ((0.0005, True), (-0.0014, False), (0.02, False), (math.nan, False)):
        other = replace(run, types=(replace(run.types[0], nfn=round(nfn, 3) + shift * 1.2), *run.types[1:]))
        assert [row["field"] for row in differences(card, other)] == ([] if same else [f"nfn.{name}"])
    Path("README.md").write_text(block(replace(run, id="0" * 16)))
    done = plop("show", run.id, "--against", "README.md")
    assert done.exit_code == 0
    assert done.stderr == f"note: README.md is of run {'0' * 16}, made by plop 0.1.0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# a card", "README.md has no plop block; plop report {id} --format md writes one"),
        ("````md\n{block}\n````", "README.md has no plop block"),
        ("```yaml\nmodel: x\n```", "README.md has no plop block"),
        ("{block}\n\n{block}", "README.md has 2 plop blocks of org/small on gsm8k; leave one of them"),
        ("a\n```plop\nmodel: [\n```", "README.md, line 2: the plop block is broken (while parsing"),
        (
            "```plop\nmodel: 1\n```",
            "README.md, line 1: the plop block is broken (model: Input should be",
        ),
        ("```plop\n```", "README.md, line 1: the plop block is broken (it: Input should be a valid dictionary"),
        ("```plop\n- a\n```", "README.md, line 1: the plop block is broken (it: "),
        ("```plop\nmodel: x", "README.md, line 1: the plop block does not end"),
        ("{other}", "README.md's plop block is of org/b on gsm8k, and run {id} is of org/small on gsm8k; give a run"),
        ("{other}\n{task}", "README.md's 2 plop blocks are of org/b on gsm8k, org/small on mbpp, and run {id}"),
    ],
)
def test_a_card_that_cannot_be_held_against_says_why(run: Run, text: str, said: str) -> None:
    blocks = {
        "block": block(run),
        "other": block(replace(run, model_id="org/b")),
        "task": block(replace(run, task_id="mbpp")),
    }
    for name, each in blocks.items():
        text = text.replace(f"{{{name}}}", each)
    Path("README.md").write_text(text)
    done = plop("show", run.id, "--against", "README.md")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"plop: {said.replace('{id}', run.id[:8])}")


def test_a_file_that_cannot_be_read_and_a_block_among_others_are_told(run: Run) -> None:
    assert "cannot read gone.md (No such file" in plop("show", run.id, "--against", "gone.md").stderr
    Path("latin.md").write_bytes(b"\xff\xfe\xe9")
    assert "it is no UTF-8" in plop("show", run.id, "--against", "latin.md").stderr
    Path("README.md").write_text(f"{block(replace(run, task_id='mbpp'))}\n~~~plop\n{block(run)[8:-3]}~~~\n")
    assert plop("show", run.id, "--against", "README.md").exit_code == 0


def test_any_name_comes_back_as_it_was(run: Run) -> None:
    for name in (HOSTILE, "no", "123", "1e5", "null", "", "a: b", "- x", "é\u2028\ud800", "{{x}}"):
        types = (replace(run.types[0], type=name or "t"), *run.types[1:])
        other = replace(run, model_id=name, task_id=name, model_revision=name, types=types)
        assert differences(block_of(f"text\n\n{block(other)}\n", other, "README.md"), other) == []


@pytest.mark.parametrize(("names", "runs"), [("", 500), ("n" * 3000, 60)])
def test_a_report_in_markdown_fits_into_a_comment(
    names: str, runs: int, registry: Registry, make_run: Callable[..., Any]
) -> None:
    for seed in range(runs):
        registry.add(*make_run(seed, model_id=f"org/{names}{seed % 150}", task_id=f"task{names}{seed % 3}"))
    assert plop("report", "--format", "md", "-o", "report.md").exit_code == 0
    text = Path("report.md").read_text()
    assert 1_000 < len(text) <= COMMENT
    assert "more, which an HTML report has." in text
    assert text.count("<details>") == text.count("</details>")
