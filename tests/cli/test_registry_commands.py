"""`plop history`, `show`, `rm`, `compare`, `export`, `import` and `registry` as a user sees them."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import pty
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_registry import Registry, Run, SampleMatrix
from small_models import byte_tokenizer, qwen2

PLOP = [sys.executable, "-m", "plop_cli"]
GOLDEN = Path(__file__).parent.parent / "golden"
MakeRun = Callable[..., tuple[Run, SampleMatrix]]
Plop = Callable[..., Result]

BASE = {"model_id": "org/base", "task_id": "sample/math"}
CHECKPOINT = {"model_id": "tuned", "task_id": "sample/math", "model_revision": "c" * 64}
RUNS: dict[str, dict[str, Any]] = {
    "math": BASE,
    "code": {**BASE, "task_id": "sample/code"},
    "large": {**BASE, "model_id": "org/large"},
    "half": {**BASE, "dtype": "bfloat16"},
    "thousand": {**CHECKPOINT, "model_label": "checkpoint-1000"},
    "thirty": {**CHECKPOINT, "model_label": "checkpoint-30"},
    "two hundred": {**CHECKPOINT, "model_label": "checkpoint-200"},
    "math again": BASE,
}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the registry is, and a terminal wide enough for every column."""
    for name, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    return tmp_path / "registry.db"


@pytest.fixture(scope="session")
def filled(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Run]]:
    path = tmp_path_factory.mktemp("filled") / "registry.db"
    with Registry(path) as store:
        return path, {name: store.add(*make_run(seed, **fields)) for seed, (name, fields) in enumerate(RUNS.items())}


@pytest.fixture
def shelf(registry: Path, filled: tuple[Path, dict[str, Run]]) -> dict[str, Run]:
    """Runs in the registry, a second apart, by name, in the order in which they were stored."""
    shutil.copy(filled[0], registry)
    return filled[1]


@pytest.fixture
def plop(registry: Path) -> Plop:
    """`plop ARGUMENTS...`, in this process."""
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def ids(result: Result) -> list[str]:
    """The run ids of a JSON lines output."""
    assert result.exit_code == 0, result.output
    return [json.loads(line)["run_id"] for line in result.stdout.splitlines()]


def error(result: Result) -> str:
    """The one line that says what is wrong, with nothing on stdout."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("plop: ")


def meddle(statement: str) -> None:
    """Change the registry behind its back."""
    with closing(sqlite3.connect(os.environ["PLOP_REGISTRY"])) as connection, connection:
        connection.execute(statement)


# history


def test_history_is_newest_first(plop: Plop, shelf: dict[str, Run]) -> None:
    result = plop("history")
    rows = result.stdout.splitlines()[3:-1]
    assert [row.split()[0] for row in rows] == [run.id[:8] for run in reversed(shelf.values())]
    for row, run in zip(rows, reversed(shelf.values()), strict=True):
        assert f"{run.created_at.astimezone():%Y-%m-%d %H:%M}" in row
        for cell in (run.model_id, run.model_label, run.task_id, f" {run.samples} ", run.dtype, *run.recommended):
            assert cell in row
        for score in run.types:
            assert f"{score.nfn:.3f}" in row, "there is room for every type"
    assert result.stderr == ""


def test_history_fits_a_narrow_terminal(plop: Plop, shelf: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = plop("history", "--model", "tuned").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "model tuned" in shown, "what all runs share is said once"
    assert shown.count("tuned") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "org/base"], ["math again", "half", "code", "math"]),
        (["--model", "org/*", "--limit", "2"], ["math again", "half"]),
        (["--task", "*code"], ["code"]),
        (["--revision", "checkpoint-2*"], ["two hundred"]),
        (["--since", "2026-01-02T03:04:12Z"], ["math again"]),
        (["--until", "2026-01-02T03:04:06Z"], ["math"]),
        (["--until", "2026-01-03", "--limit", "1"], ["math again"]),
        (["--type", "q_*", "--model", "org/large"], ["large"]),
        (["--model", "tuned", "--task", "sample/math"], ["thousand", "two hundred", "thirty"]),
    ],
)
def test_filters_and_the_order_of_checkpoints(
    plop: Plop, shelf: dict[str, Run], arguments: list[str], expected: list[str]
) -> None:
    found = plop("history", "--format", "jsonl", *arguments)
    assert ids(found) == [shelf[name].id for name in expected]
    assert ("older runs are not shown" in found.stderr) == (arguments[2:3] == ["--limit"])


def test_an_age_is_counted_from_now(plop: Plop, registry: Path, make_run: MakeRun) -> None:
    now = datetime.now(UTC)
    with Registry(registry) as store:
        ages = {hours: store.add(*make_run(hours, created_at=now - timedelta(hours=hours))) for hours in (1, 30, 400)}
    for age, expected in (("90m", [1]), ("31h", [1, 30]), ("2d", [1, 30]), ("3w", [1, 30, 400])):
        assert ids(plop("history", "--format", "jsonl", "--since", age)) == [ages[hours].id for hours in expected]
    assert ids(plop("history", "--format", "jsonl", "--until", "2d")) == [ages[400].id]


def test_a_date_ends_with_its_day(plop: Plop, registry: Path, make_run: MakeRun) -> None:
    evening = datetime(2026, 3, 4, 22).astimezone()
    with Registry(registry) as store:
        run = store.add(*make_run(created_at=evening))
    assert ids(plop("history", "--format", "jsonl", "--since", "2026-03-04", "--until", "2026-03-04")) == [run.id]
    assert "no run fits --until 2026-03-0" in error(plop("history", "--since", "2026-03-01", "--until", "2026-03-03"))


def test_history_in_every_format(plop: Plop, shelf: dict[str, Run]) -> None:
    only = ["--model", "org/large", "--type", "[qv]_proj"]
    run = shelf["large"]
    types = [score for score in run.types if score.type in ("q_proj", "v_proj")]
    (document,) = json.loads(plop("history", *only, "--format", "json").stdout)
    (line,) = plop("history", *only, "--format", "jsonl").stdout.splitlines()
    assert json.loads(line) == document
    assert (document["run_id"], document["task"], document["recommended"]) == (run.id, run.task_id, run.recommended)
    assert document["nfn"] == {score.type: score.nfn for score in types}, "a summary: of the types that fit"
    assert document["confidence"] is None, "3 texts are too few to say"
    for form in ("json", "jsonl"):
        (whole,) = json.loads(f"[{plop('history', *only, '--format', form, '--full').stdout.strip().strip('[]')}]")
        assert whole == run.to_dict(), "--full has all, modules too"
    (row,) = csv.DictReader(io.StringIO(plop("history", *only, "--format", "csv").stdout))
    assert row["run_id"] == run.id
    assert row["recommended"] == " ".join(run.recommended)
    assert {name: float(row[name]) for name in ("q_proj", "v_proj")} == {score.type: score.nfn for score in types}
    assert "up_proj" not in row
    header, rule, cells = plop("history", *only, "--format", "md").stdout.splitlines()
    assert header.count("|") == rule.count("|") == cells.count("|") == 11
    assert f"| {run.id[:8]} |" in cells


def test_a_registry_without_runs_is_no_error(plop: Plop, registry: Path) -> None:
    for form, expected in (("table", ""), ("json", "[]\n"), ("jsonl", ""), ("csv", "")):
        result = plop("history", "--format", form)
        assert (result.exit_code, result.stdout) == (0, expected)
        assert f"no runs yet in {registry}" in result.stderr
    assert not registry.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "org/bas"], "no run fits --model org/bas; did you mean 'org/base'?"),
        (["--task", "law"], "no run fits --task law; there is sample/code, sample/math"),
        (["--type", "qproj"], "no run fits --type qproj; did you mean 'q_proj'?"),
        (["--since", "1h"], "; the runs are of 2026-01-02T03:04:05+00:00 to 2026-01-02T03:04:12+00:00"),
        (["--model", "tuned", "--task", "*code"], "--task *code leaves none of the runs that fit --model tuned; drop"),
        (
            ["--model", "org/*", "--task", "*code", "--revision", "check*"],
            "--revision check* leaves none of the runs that fit --model org/* --task *code",
        ),
    ],
)
@pytest.mark.parametrize("command", ["history", "export", "compare"])
def test_the_filter_that_leaves_nothing_is_named(
    plop: Plop, shelf: dict[str, Run], tmp_path: Path, command: str, arguments: list[str], said: str
) -> None:
    more = {"history": [], "export": ["-o", tmp_path / "out.jsonl"], "compare": ["--by", "task"]}[command]
    assert said in error(plop(command, *arguments, *more))
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", "7", "7y", "2026-01-02T25:00", "99999999w", ""])
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_malformed_date_is_refused(plop: Plop, shelf: dict[str, Run], option: str, moment: str) -> None:
    result = plop("history", option, moment)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr
    assert "is no time; give a date (2026-01-31)" in result.stderr


# show


def test_show_says_everything_about_a_run(plop: Plop, shelf: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    run = shelf["large"]
    shown = plop("show", run.id[:5], "--map").stdout
    assert shown.splitlines()[-1] == (
        "plop score org/large --task sample/math --samples 3 --max-length 256 --seed 0"
    ), "on one line however narrow the terminal, to be copied"
    flat = "".join(shown.split())
    for part in (
        run.id, run.model_revision, run.task_revision, run.texts_hash, "max_length256", "torch2.6.0", "fewsamples",
        "NFN-map", "1×tiedtotheembedding",
    ):  # fmt: skip
        assert part in flat


def test_show_finds_a_run_by_every_name(plop: Plop, shelf: dict[str, Run]) -> None:
    for reference, name in (
        (shelf["code"].id, "code"),
        (shelf["half"].id[:6], "half"),
        ("latest", "math again"),
        ("org/base/sample/code", "code"),
        ("tuned@checkpoint-30/sample/math", "thirty"),
    ):
        assert json.loads(plop("show", reference, "--format", "json").stdout)["run_id"] == shelf[name].id


@pytest.mark.parametrize(("by", "rows"), [("type", 4), ("layer", 2), ("module", 8)])
def test_show_by_type_layer_or_module_in_every_format(plop: Plop, shelf: dict[str, Run], by: str, rows: int) -> None:
    with Registry() as store:
        run = store.get("latest")
    shown = {form: plop("show", "latest", "--by", by, "--format", form).stdout for form in ("jsonl", "csv", "md")}
    lines = [json.loads(line) for line in shown["jsonl"].splitlines()]
    table = list(csv.DictReader(io.StringIO(shown["csv"])))
    assert len(lines) == len(table) == len(shown["md"].splitlines()) - 2 == rows
    assert [row["nfn"] for row in lines] == [float(row["nfn"]) for row in table]
    if by == "layer":
        members = [module.nfn for module in run.modules if module.layer == 0]
        assert lines[0]["nfn"] == pytest.approx(sum(members) / 4)
        assert (lines[0]["lowest_nfn"], lines[0]["highest_nfn"]) == (min(members), max(members))
    else:
        scores = run.types if by == "type" else run.modules
        assert [row["nfn"] for row in lines] == sorted(score.nfn for score in scores)
    document = json.loads(plop("show", "latest", "--by", by, "--format", "json").stdout)
    assert document == {**run.to_dict(), "command": document["command"]}
    assert document["command"].startswith("plop score org/base --task sample/math ")
    assert plop("show", "latest", "--by", by).exit_code == 0


def test_an_unknown_or_ambiguous_run_is_said_with_the_nearest(plop: Plop, shelf: dict[str, Run]) -> None:
    run = shelf["code"]
    assert f"nearest: {run.id}" in error(plop("show", run.id[:-1] + ("0" if run.id[-1] != "0" else "1")))
    assert "nearest: org/base/sample/math" in error(plop("show", "org/bas/sample/math"))
    for command in (["show"], ["rm", "--yes"], ["compare", run.id]):
        assert error(plop(*command, "nonsense")).startswith("no run 'nonsense'")
    meddle(f"update runs set id = '{run.id[:8]}00000000' where id = '{shelf['half'].id}'")
    said = error(plop("show", run.id[:8]))
    assert f"'{run.id[:8]}' fits 2 runs: " in said
    assert run.id in said


def test_names_are_shown_as_they_are_written(plop: Plop, registry: Path, make_run: MakeRun) -> None:
    """Not as the markup or the emoji that a table would make of them."""
    names = ["t.csv:[/b] :warning: {q}", "u.csv:[bold]{q}"]
    with Registry(registry) as store:
        for seed, name in enumerate(names):
            store.add(*make_run(seed, task_id=name))
    for command in ("history", "show latest", "compare --by task"):
        assert names[1] in plop(*command.split()).stdout
    assert names[0] in plop("history").stdout


# rm


def test_rm_does_not_remove_what_nobody_confirms(plop: Plop, shelf: dict[str, Run]) -> None:
    result = plop("rm", shelf["math"].id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert shelf["math"].id[:8] in result.stderr, "what would go is shown"
    assert result.stderr.splitlines()[-1] == "plop: nobody can be asked whether to remove these; give --yes"
    assert len(ids(plop("history", "--format", "jsonl"))) == 8


def test_rm_removes_each_run_once(plop: Plop, shelf: dict[str, Run]) -> None:
    result = plop("rm", "--yes", shelf["math"].id, shelf["math"].id[:6], "tuned/sample/math")
    named = [f"{shelf['math'].id} org/base/sample/math", f"{shelf['two hundred'].id} tuned/sample/math", "2 removed"]
    assert (result.exit_code, result.stdout.splitlines()) == (0, named)
    left = ids(plop("history", "--format", "jsonl"))
    assert sorted(left) == sorted(run.id for name, run in shelf.items() if name not in ("math", "two hundred"))
    assert plop("registry", "check").stdout == "6 runs, all sound\n"


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["--model", "org/*", "--task", "*code"], ["code"]),
        (["--revision", "checkpoint-30"], ["thirty"]),
        (["--until", "2026-01-02T03:04:06Z"], ["math"]),
        (["latest", "org/large/sample/math"], ["math again", "large"]),
    ],
)
def test_rm_takes_filters_and_a_dry_run_removes_nothing(
    plop: Plop, shelf: dict[str, Run], arguments: list[str], gone: list[str]
) -> None:
    lines = [f"{shelf[name].id} {shelf[name].model_id}/{shelf[name].task_id}" for name in gone]
    before = ids(plop("history", "--format", "jsonl"))
    dry = plop("rm", *arguments, "--dry-run")
    count = "1 run" if len(gone) == 1 else f"{len(gone)} runs"
    assert (dry.exit_code, dry.stdout.splitlines()) == (0, [*lines, f"{count} would be removed"])
    assert ids(plop("history", "--format", "jsonl")) == before
    assert plop("rm", *arguments, "--yes").stdout.splitlines() == [*lines, f"{len(gone)} removed"]
    assert ids(plop("history", "--format", "jsonl")) == [
        each for each in before if each not in {shelf[n].id for n in gone}
    ]


@pytest.mark.parametrize("arguments", [[], ["latest", "--model", "org/*"]])
def test_rm_wants_runs_or_filters(plop: Plop, shelf: dict[str, Run], arguments: list[str]) -> None:
    result = plop("rm", "--yes", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give RUNs to remove, or filters" in result.stderr
    assert "no run fits" in error(plop("rm", "--yes", "--model", "nobody"))
    assert len(ids(plop("history", "--format", "jsonl"))) == 8


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, 8), ("\n", 1, 8), ("y\n", 0, 7)])
def test_rm_asks_on_a_terminal(shelf: dict[str, Run], answer: str, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*PLOP, "rm", "latest"], stdin=theirs, stderr=subprocess.PIPE, text=True)
    os.write(ours, answer.encode())
    _, said = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code
    assert "Remove 1 of the runs in" in said
    with Registry() as store:
        assert len(store.runs()) == left


# compare


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (["--by", "task", "--model", "org/base"], {"sample/code": "code", "sample/math": "math again"}),
        (["--by", "model", "--task", "*math", "--model", "org/*"], {"org/base": "math again", "org/large": "large"}),
        (["--by", "dtype", "--model", "org/base", "--task", "*math"], {"bfloat16": "half", "float32": "math again"}),
        (
            ["--by", "revision", "--model", "tuned"],
            {"checkpoint-30": "thirty", "checkpoint-200": "two hundred", "checkpoint-1000": "thousand"},
        ),
        (["latest", "org/base/sample/code"], {"sample/math": "math again", "sample/code": "code"}),
    ],
)
def test_runs_are_chosen_by_axis_or_by_name(
    plop: Plop, shelf: dict[str, Run], arguments: list[str], columns: dict[str, str]
) -> None:
    told = json.loads(plop("compare", *arguments, "--format", "json").stdout)
    assert [(run["name"], run["run_id"]) for run in told["runs"]] == [(n, shelf[r].id) for n, r in columns.items()]
    assert told["baseline"] == told["runs"][0]["run_id"]


def test_older_runs_that_are_passed_over_are_said(plop: Plop, shelf: dict[str, Run]) -> None:
    assert "2 older passed over" in plop("compare", "--by", "task", "--model", "org/base").stderr
    assert plop("compare", "--by", "revision", "--model", "tuned").stderr == ""


def test_a_branch_that_moved_is_compared_with_itself(plop: Plop, registry: Path, make_run: MakeRun) -> None:
    with Registry(registry) as store:
        for seed, revision in enumerate(("a" * 40, "b" * 40, "b" * 40)):
            store.add(*make_run(seed, model_revision=revision))
    told = json.loads(plop("compare", "--by", "revision", "--format", "json").stdout)
    assert [run["name"] for run in told["runs"]] == ["main aaaaaaaa", "main bbbbbbbb"]


def test_compare_in_every_format(plop: Plop, shelf: dict[str, Run]) -> None:
    chosen = ["--by", "revision", "--model", "tuned"]
    document = json.loads(plop("compare", *chosen, "--format", "json").stdout)
    lines = [json.loads(line) for line in plop("compare", *chosen, "--format", "jsonl").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(plop("compare", *chosen, "--format", "csv").stdout)))
    assert lines == document["scores"]
    assert len(table) == len(lines) == 4 * 3
    for row, line in zip(table, lines, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in line.items()}
        run = next(run for run in shelf.values() if run.id == row["run_id"])
        (score,) = (score for score in run.types if score.type == row["type"])
        assert (line["nfn"], line["stderr"], line["recommended"]) == (score.nfn, score.stderr, score.recommended)
        assert (line["difference"] is None) == (line["run_id"] == document["baseline"])
    markdown = plop("compare", *chosen, "--format", "md").stdout
    assert markdown.startswith(f"**{document['sentence']}**\n\n| type | checkpoint-30 |")
    assert document["sentence"] in " ".join(plop("compare", *chosen).stdout.split())


def test_the_baseline_is_the_first_run_or_the_one_that_is_named(plop: Plop, shelf: dict[str, Run]) -> None:
    chosen = ["--by", "revision", "--model", "tuned", "--format", "json"]
    for reference in ("checkpoint-200", shelf["two hundred"].id, shelf["two hundred"].id[:8]):
        told = json.loads(plop("compare", *chosen, "--baseline", reference).stdout)
        assert told["baseline"] == shelf["two hundred"].id
    said = error(plop("compare", *chosen, "--baseline", "checkpoint-20"))
    assert f"--baseline checkpoint-20 is none of the compared runs: checkpoint-30 ({shelf['thirty'].id[:8]})" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "what is to be compared? give two runs or more, or --by"),
        (["latest", "--by", "task"], "what is to be compared?"),
        (["latest", "org/base/sample/code", "--task", "*"], "what is to be compared?"),
        (["latest", "org/base/sample/code", "--type", "qproj"], "fits --type qproj; did you mean 'q_proj'?"),
        (["latest", "latest"], "there is only one run to compare"),
        (["--by", "task"], "--by task compares runs of one model, and these are of org/base, org/large, tuned; add"),
        (["--by", "revision", "--model", "org/base"], "runs of one task, and these are of sample/code, sample/math"),
        (["--by", "task", "--model", "tuned"], "all runs that fit have the same task, sample/math; plop score adds"),
    ],
)
def test_what_cannot_be_compared_is_said(plop: Plop, shelf: dict[str, Run], arguments: list[str], said: str) -> None:
    assert said in error(plop("compare", *arguments))


def test_fail_on_exits_3(plop: Plop, registry: Path) -> None:
    with Registry(registry) as store:
        store.import_lines((GOLDEN / "tuned.jsonl").read_text().splitlines(), "tuned")
        store.import_lines((GOLDEN / "smollm2.jsonl").read_text().splitlines(), "smollm2")
    changed = ["compare", "--by", "revision", "--model", "tuned"]
    same = ["compare", "demo/sample/math", "demo/sample/history"]
    assert plop(*changed).exit_code == plop(*same, "--fail-on", "changed").exit_code == 0
    result = plop(*changed, "--fail-on", "changed", "--format", "csv")
    assert result.exit_code == 3
    assert result.stdout == plop(*changed, "--format", "csv").stdout, "the comparison is printed all the same"
    assert "plop: checkpoint-4 takes up_proj instead of gate_proj (--fail-on changed)" in result.stderr
    assert plop(*same, "--fail-on", "nfn:0.03").exit_code == 0
    result = plop(*same, "--fail-on", "nfn:0.019", "--fail-on", "changed")
    assert result.exit_code == 3
    assert result.stderr == "plop: o_proj of sample/history differs by +0.020 (--fail-on nfn:0.019)\n"


@pytest.mark.parametrize("condition", ["change", "nfn", "nfn:", "nfn:x", "nfn:-1", "nfn:nan", "nfn_squared:1"])
def test_a_malformed_condition_is_refused(plop: Plop, shelf: dict[str, Run], condition: str) -> None:
    result = plop("compare", "--by", "revision", "--model", "tuned", "--fail-on", condition)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no condition; give changed" in result.stderr


# export and import


def test_export_import_export_gives_the_same_bytes(plop: Plop, shelf: dict[str, Run], tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first.jsonl", "again.jsonl", "other.db"))
    exported = plop("export", "-o", first)
    assert (exported.exit_code, exported.stdout, exported.stderr) == (0, "", f"{first}: 8 runs\n")
    assert plop("import", first, "--registry", other).stderr == f"{first}: 8 added, 0 known\n"
    assert plop("import", first, first, "--registry", other).stderr == f"{first}: 0 added, 8 known\n" * 2
    plop("export", "-o", again, "--registry", other)
    assert again.read_bytes() == first.read_bytes()


def test_overlapping_exports_merge_in_any_order(plop: Plop, shelf: dict[str, Run], tmp_path: Path) -> None:
    parts = {"a": ["--model", "org/*"], "b": ["--task", "sample/math"], "c": ["--limit", "3"]}
    for name, filters in parts.items():
        plop("export", "-o", tmp_path / f"{name}.jsonl", *filters)
    plop("export", "-o", tmp_path / "all.jsonl")
    for number, order in enumerate(itertools.permutations(parts)):
        merged, out = tmp_path / f"{number}.db", tmp_path / f"{number}.jsonl"
        assert plop("import", *(tmp_path / f"{name}.jsonl" for name in order), "--registry", merged).exit_code == 0
        plop("export", "-o", out, "--registry", merged)
        assert out.read_bytes() == (tmp_path / "all.jsonl").read_bytes()


def test_a_damaged_line_is_refused_with_its_number_and_nothing_of_its_file_is_stored(
    plop: Plop, shelf: dict[str, Run], tmp_path: Path
) -> None:
    good, bad, other = (tmp_path / name for name in ("good.jsonl", "bad.jsonl", "other.db"))
    plop("export", "-o", good, "--limit", "1")
    plop("export", "-o", bad)
    lines = bad.read_text().splitlines()
    bad.write_text("\n".join([*lines[:4], lines[4].replace('"duration":1.5', '"duration":2.5'), *lines[5:]]))
    result = plop("import", good, bad, "--registry", other)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{good}: 1 added, 0 known",
        f"plop: {bad}, line 5: the id does not match the content; nothing of this file was stored",
    ]
    assert ids(plop("history", "--format", "jsonl", "--registry", other)) == [shelf["math again"].id]
    bad.write_bytes(os.urandom(1000))
    assert f"{bad}, line 1: not an exported run" in error(plop("import", bad, "--registry", other))
    assert f"cannot read {tmp_path}" in error(plop("import", tmp_path, "--registry", other))
    assert "No such file" in error(plop("import", tmp_path / "none.jsonl", "--registry", other))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_programs_read_an_export(plop: Plop, shelf: dict[str, Run], tmp_path: Path, kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / f"runs.{kind}"
    assert plop("export", "-o", file, "--model", "tuned").stderr == f"{file}: 3 runs\n"
    frame = getattr(pandas, f"read_{kind}")(file)
    runs = [shelf[name] for name in ("thousand", "thirty", "two hundred")]
    assert frame["run"].tolist() == [run.id for run in runs for _ in run.types], "oldest first"
    assert frame["nfn"].tolist() == [score.nfn for run in runs for score in run.types]
    other = tmp_path / "runs.table"
    plop("export", "-o", other, "--model", "tuned", "--format", kind)
    assert other.read_bytes() == file.read_bytes()


def test_an_export_overwrites_nothing_unless_told_and_is_whole_or_not_there(
    plop: Plop, shelf: dict[str, Run], tmp_path: Path
) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text("precious")
    assert error(plop("export", "-o", file)) == f"{file} exists; --overwrite replaces it"
    meddle("delete from sample_matrices where run = 4")
    result = plop("export", "-o", file, "--force")
    assert f"run {shelf['half'].id} is damaged and left out" in result.stderr
    assert result.exit_code == 0
    assert len(file.read_text().splitlines()) == len(shelf) - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry.db", "runs.jsonl"]
    assert "ends in none of jsonl, csv, parquet; give --format" in error(plop("export", "-o", tmp_path / "runs.txt"))
    for kind in ("jsonl", "csv"):
        said = error(plop("export", "-o", tmp_path / "no" / f"where.{kind}", "--model", "tuned"))
        assert said == f"there is no folder {tmp_path / 'no'}; make it first"
        said = error(plop("export", "-o", tmp_path, "--format", kind, "--model", "tuned", "--force"))
        assert said == f"{tmp_path} is a folder; give the path of a file in it"
    file.write_text("precious")
    meddle("delete from sample_matrices")
    assert "no run that fits is sound" in plop("export", "-o", file, "--force").stderr
    assert file.read_text() == "precious"


# registry


def test_registry_tells_where_it_is_without_a_password(plop: Plop, registry: Path) -> None:
    assert plop("registry", "path").stdout == f"{registry}\n"
    shown = plop("registry", "path", "--registry", "postgresql://me:secret@host/plop").stdout
    assert shown == "postgresql+psycopg://me:***@host/plop\n"


def test_registry_status_upgrade_backup_and_check(
    plop: Plop, registry: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    assert json.loads(plop("registry", "status", "--format", "json").stdout)["schema"] is None
    assert "none yet" in plop("registry", "status").stdout
    schema = plop("registry", "upgrade").stdout.split()[-1]
    with Registry(registry) as store:
        run = store.add(*make_run())
        expected = store.status()
    assert json.loads(plop("registry", "status", "--format", "json").stdout) == expected
    assert expected["schema"] == schema
    assert re.search(r"runs +1 ", plop("registry", "status").stdout)
    copy = tmp_path / "copy.db"
    assert plop("registry", "backup", copy).exit_code == 0
    assert ids(plop("history", "--format", "jsonl", "--registry", copy)) == [run.id]
    assert error(plop("registry", "backup", copy)) == f"{copy} exists; give the backup another name"
    assert plop("registry", "check").stdout == "1 runs, all sound\n"


def test_registry_check_fails_where_a_run_is_damaged(plop: Plop, shelf: dict[str, Run]) -> None:
    meddle("update module_scores set nfn = 7 where run = 2 and position = 0")
    result = plop("registry", "check")
    assert result.exit_code == 1
    assert all(line.startswith(f"run {shelf['code'].id}: ") for line in result.stdout.splitlines())
    assert result.stdout


@pytest.mark.parametrize("command", ["history", "show latest", "compare --by task", "registry status"])
def test_a_file_that_is_no_registry_is_said(plop: Plop, tmp_path: Path, command: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database\n" * 100)
    assert str(file) in error(plop(*command.split(), "--registry", file))
    assert file.read_text() == "not a database\n" * 100


def test_where_the_disk_is_full_the_result_is_printed_and_said_not_to_be_stored(
    plop: Plop, registry: Path, tmp_path: Path
) -> None:
    qwen2().save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    plop("registry", "upgrade")
    limit = 40_000  # room for what readers share (32 KiB), not for a run
    result = subprocess.run(
        [*PLOP, "score", tmp_path / "model", "--task", "sample/math", "-n", "2", "--json"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "the run was not stored: registry" in result.stderr
    assert "free space" in result.stderr
    (kept,) = tmp_path.glob("plop-run-*.jsonl")
    assert f"the run is kept in {kept} (plop import)" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(json.loads(result.stdout)["types"]) == 7
    assert plop("registry", "check").stdout == "0 runs, all sound\n"
    assert plop("import", kept).exit_code == 0
    assert ids(plop("history", "--format", "jsonl")) == [json.loads(result.stdout)["run_id"] or kept.stem[-16:]]


# elsewhere


def test_the_same_over_postgresql(plop: Plop, postgres: Callable[[], str], tmp_path: Path) -> None:
    url, local = postgres(), tmp_path / "local.db"
    for registry in (url, local):
        assert plop("import", GOLDEN / "tuned.jsonl", "--registry", registry).exit_code == 0
    for command in ("history --type q_* --model tun*", "show latest --map", "compare --by revision", "registry check"):
        shown = [plop(*command.split(), "--registry", registry) for registry in (url, local)]
        assert shown[0].exit_code == 0, shown[0].output
        assert shown[0].stdout == shown[1].stdout
    plop("export", "-o", tmp_path / "out.jsonl", "--registry", url)
    assert (tmp_path / "out.jsonl").read_bytes() == (GOLDEN / "tuned.jsonl").read_bytes()
    assert plop("rm", "latest", "--yes", "--registry", url).stdout.endswith(" tuned/sample/math\n1 removed\n")
    assert "pg_dump" in error(plop("registry", "backup", tmp_path / "copy.db", "--registry", url))


def test_no_command_of_the_registry_imports_torch(shelf: dict[str, Run], tmp_path: Path) -> None:
    commands = [
        ["history"],
        ["show", "latest", "--map"],
        ["compare", "--by", "revision", "--model", "tuned"],
        ["export", "-o", str(tmp_path / "runs.jsonl")],
        ["import", str(tmp_path / "runs.jsonl")],
        ["rm", "--yes", "latest"],
        ["registry", "check"],
    ]
    probe = (
        "import sys; from typer.testing import CliRunner; from plop_cli.cli.app import app\n"
        f"for command in {commands!r}:\n"
        "    result = CliRunner().invoke(app, command)\n"
        "    assert result.exit_code == 0, result.output\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_what_all_these_commands_do_is_told(plop: Plop) -> None:
    for command in ("history", "show", "rm", "compare", "export", "import", "registry", "registry backup"):
        shown = plop(*command.split(), "--help")
        assert shown.exit_code == 0
        assert "Usage:" in shown.stdout
