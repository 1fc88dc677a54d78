"""Models and texts in folders of one name, as they are scored and looked for; names, notes and formats of a score."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_registry import Registry
from small_models import byte_tokenizer, qwen2

Plop = Callable[..., Result]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/out; b/out of other weights; copy/out and run/checkpoint-5, which are a/out's; two files of one name."""
    folder = tmp_path_factory.mktemp("models")
    for place, scale in (("a/out", 1.0), ("b/out", 2.0)):
        model = qwen2()
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight[0] *= scale
        model.save_pretrained(folder / place)
        byte_tokenizer().save_pretrained(folder / place)
    for place in ("copy/out", "run/checkpoint-5"):
        shutil.copytree(folder / "a" / "out", folder / place)
    for place, word in (("one", "two"), ("two", "three")):
        (folder / place).mkdir()
        lines = [json.dumps({"q": f"{word} words {number}", "a": "an answer"}) for number in range(9)]
        (folder / place / "t.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def plop(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Plop:
    """`plop ARGUMENTS...`, in the folder of the models."""
    for name, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(models)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def scored(plop: Plop, *arguments: str) -> list[dict]:
    result = plop("score", *arguments, "-n", "8", "--json")
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)
    return runs if isinstance(runs, list) else [runs]


def test_folders_of_one_name_are_told_apart_and_found_by_the_path_that_was_scored(plop: Plop, models: Path) -> None:
    texts = ["--task", "one/t.jsonl", "--column", "q"]
    one = scored(plop, "a/out", *texts)[0]
    shown = plop("history", "--format", "csv").stdout
    assert next(csv.DictReader(io.StringIO(shown)))["model"] == "out", "as long as there is no other"
    other = scored(plop, "./b/out", *texts)[0]
    assert one["run_id"] != other["run_id"]
    shown = {
        row["run_id"]: row["model"] for row in csv.DictReader(io.StringIO(plop("history", "--format", "csv").stdout))
    }
    assert shown == {one["run_id"]: "a/out", other["run_id"]: "b/out"}
    for given in ("a/out", "./a/out", str(models / "a" / "out"), "../" + models.name + "/a/out/"):
        found = plop("history", "--model", given, "--format", "jsonl").stdout.splitlines()
        assert [json.loads(line)["run_id"] for line in found] == [one["run_id"]], given
    refused = plop("rm", "--yes", "out/t.jsonl:q")
    assert refused.exit_code == 1
    assert f"{one['run_id']} (a/out/t.jsonl:q)" in refused.stderr
    assert f"{other['run_id']} (b/out/t.jsonl:q)" in refused.stderr
    assert plop("rm", "--yes", "b/out/t.jsonl:q").stdout == f"{other['run_id']} b/out/t.jsonl:q\n1 removed\n"


@pytest.mark.parametrize("how", [["--column", "q"], ["--template", "{q}: {a}"]])
def test_show_prints_a_command_that_works_from_anywhere(
    plop: Plop, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: list[str]
) -> None:
    run = scored(plop, "run/checkpoint-5", "--task", "two/t.jsonl", *how)[0]
    command = shlex.split(plop("show", "latest").stdout.splitlines()[-1])
    assert command[:5] == ["plop", "score", f"{models}/run/checkpoint-5", "--task", f"{models}/two/t.jsonl"]
    monkeypatch.chdir(tmp_path)
    again = json.loads(plop(*command[1:], "--json").stdout)
    assert (again["run_id"], again["cached"]) == (run["run_id"], True)


def test_a_path_that_is_gone_is_said(plop: Plop, models: Path) -> None:
    shutil.copytree(models / "b" / "out", models / "gone")
    scored(plop, "gone", "--task", "sample/math")
    shutil.rmtree(models / "gone")
    assert plop("show", "latest").stderr == f"note: {models}/gone is not there any more\n"


def test_the_same_weights_elsewhere_are_answered_and_recorded_there_too(plop: Plop, tmp_path: Path) -> None:
    """Once for each name: a final model that equals its last checkpoint stands beside it."""
    places = ["a/out", "copy/out", "run/checkpoint-5"]
    first = scored(plop, *places, "--task", "sample/math")
    again = scored(plop, *places, "--task", "sample/math")
    assert [run["cached"] for run in first] == [False, True, True]
    assert [run["run_id"] for run in again] == [run["run_id"] for run in first]
    assert len({run["run_id"] for run in first}) == 3
    assert len({run["key"] for run in first}) == 1
    assert [run["types"] for run in first] == [first[0]["types"]] * 3
    with Registry(tmp_path / "registry.db") as registry:
        assert registry.check() == []
    for place, run in zip(places, first, strict=True):
        assert json.loads(plop("show", f"{place}/sample/math", "--format", "json").stdout)["run_id"] == run["run_id"]


def test_a_name_and_a_note_are_kept_shown_and_filtered(plop: Plop) -> None:
    said = ["--name", "baseline", "--note", "before tuning"]
    run = scored(plop, "a/out", "--task", "sample/math", *said)[0]
    assert (run["name"], run["note"]) == ("baseline", "before tuning")
    assert "baseline   before tuning" in plop("history").stdout
    for filters in (["--name", "base*"], ["--note", "*tuning"]):
        (line,) = plop("history", "--format", "jsonl", *filters).stdout.splitlines()
        assert json.loads(line)["run_id"] == run["run_id"]
    assert plop("show", "baseline").stdout.count("before tuning") == 1
    renamed = scored(plop, "a/out", "--task", "sample/math", "--name", "first")[0]
    assert (renamed["cached"], renamed["run_id"], renamed["name"]) == (True, run["run_id"], "first")
    assert plop("history", "--name", "baseline").stderr == "plop: no run fits --name baseline; there is first\n"


def test_a_score_in_every_format(plop: Plop) -> None:
    grid = ["score", "a/out", "b/out", "--task", "sample/math", "-n", "8"]
    plop(*grid)
    document = json.loads(plop(*grid, "--format", "json").stdout)
    assert document == json.loads(plop(*grid, "--json").stdout)
    lines = [json.loads(line) for line in plop(*grid, "--format", "jsonl").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(plop(*grid, "--format", "csv").stdout)))
    assert [(row["run_id"], row["type"], row["nfn"]) for row in lines] == [
        (run["run_id"], score["type"], score["nfn"]) for run in document for score in run["types"]
    ]
    assert [float(row["nfn"]) for row in table] == [row["nfn"] for row in lines]
    assert {row["model"] for row in table} == {"a/out", "b/out"}
    markdown = plop(*grid, "--format", "md", "--by", "layer").stdout.splitlines()
    assert len(markdown) == 2 + 2 * 3
    modules = plop("score", "a/out", "--list-modules", "--format", "csv").stdout
    assert len(list(csv.DictReader(io.StringIO(modules)))) == 21


def test_rescore_and_its_old_word_score_anew(plop: Plop) -> None:
    ids = [
        scored(plop, "a/out", "--task", "sample/math", *force)[0]["run_id"]
        for force in ([], ["--rescore"], ["--force"])
    ]
    assert len(set(ids)) == 3


def test_few_texts_are_too_few_to_say_how_sure(plop: Plop) -> None:
    result = plop("score", "a/out", "--task", "sample/math", "-n", "7")
    assert "too few texts to say how sure that is: 7; 8 are the least" in " ".join(result.stdout.split())
    assert "resamples" not in result.stdout
    document = json.loads(plop("show", "latest", "--format", "json").stdout)
    assert document["confidence"] is None
    assert {score["confidence"] for score in document["types"]} == {None}
    undecided = plop("score", "b/out", "--task", "sample/math", "-n", "7", "--until-decided")
    assert "7 texts are too few to say how sure the set is; give 8 or more" in undecided.stderr


def test_a_report_is_not_written_over_another_nor_over_a_registry(plop: Plop, tmp_path: Path) -> None:
    scored(plop, "a/out", "b/out", "--task", "sample/math")
    path = tmp_path / "report.md"
    assert plop("report", "-o", path).exit_code == 0
    assert plop("report", "-o", path).stderr == f"plop: {path} exists; --overwrite replaces it\n"
    assert plop("report", "-o", path, "--overwrite").exit_code == plop("report", "-o", path, "--force").exit_code == 0
    assert "a/out" in path.read_text()
    assert str(Path.cwd()) not in path.read_text(), "where models lie is nobody's business"
    for command in (["report"], ["export", "--format", "jsonl"], ["recommend", "a/out", "--task", "sample/math"]):
        said = plop(*command, "-o", tmp_path / "registry.db", "--overwrite")
        assert (said.exit_code, said.stdout) == (1, "")
        assert "is a database, as registries are, and never replaced" in said.stderr
    with Registry(tmp_path / "registry.db") as registry:
        assert len(registry.runs()) == 2
