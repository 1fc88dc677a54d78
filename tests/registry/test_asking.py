"""A user's own SQL: answered from the documented views on both databases, and never able to write, hang or pile up."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from plop_cli.cli.app import app
from plop_registry import Registry, RegistryError
from plop_registry.views import VIEWS
from races import made_race
from structure import ROOT

FOR_EVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c"
MILLION = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000) SELECT x, 'text' AS t FROM c"
)


@pytest.fixture
def registry(url: str, make_run: Callable[..., Any]) -> Iterator[Registry]:
    with Registry(url) as registry:
        for seed, model in enumerate(["org/a", "org/b"]):
            registry.add(*make_run(seed, model_id=model))
        registry.races.add(made_race({"all": np.ones((2, 3)), "plop": np.ones((2, 3))}))
        yield registry


def ask(registry: Registry, query: str, **options: Any) -> list[tuple[Any, ...]]:
    with registry.query(query, **options) as answer:
        return [tuple(row) for row in answer.rows]


def everything(registry: Registry) -> str:
    """All that is stored."""
    lines = "".join(registry.export_lines()) + repr(registry.races.all())
    return hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("view", VIEWS)
def test_the_views_have_the_documented_columns(registry: Registry, view: str) -> None:
    section = re.search(rf"^### {view}\n(.*?)(^##|\Z)", (ROOT / "docs/registry.md").read_text(), re.S | re.M)
    assert section
    with registry.query(f"SELECT * FROM {view}") as answer:
        assert list(answer.columns) == re.findall(r"`(\w+)`", section[1])
        assert len(list(answer.rows)) == {"runs": 2, "type_scores": 8, "module_scores": 16, "races": 1}[view]


def test_a_query_says_what_the_library_says(registry: Registry) -> None:
    runs = {run.id: run for run in registry.runs(modules=True)}
    scores = {(run.id, score.type): score.nfn for run in runs.values() for score in run.types}
    assert {row[:2]: row[2] for row in ask(registry, "SELECT run, type, nfn FROM type_scores")} == scores
    modules = {(run.id, module.name): module.nfn for run in runs.values() for module in run.modules}
    assert {row[:2]: row[2] for row in ask(registry, "SELECT run, name, nfn FROM module_scores")} == modules
    assert ask(registry, "SELECT contestants, laps FROM races") == [(2, 4)]
    assert [row[0] for row in ask(registry, "SELECT model FROM runs ORDER BY created_at DESC; -- newest")] == [
        "org/b",
        "org/a",
    ]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM runs",
        "DELETE FROM models",
        "INSERT INTO meta VALUES ('a', 'b')",
        "UPDATE tasks SET source = ''",
        "DROP VIEW runs",
        "DROP TABLE laps",
        "CREATE TABLE mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "WITH gone AS (DELETE FROM meta RETURNING name) SELECT name FROM gone",
        "SELECT 1 AS a; DELETE FROM meta",
        "SELECT 1 AS a; COMMIT; DELETE FROM meta",
        "COMMIT",
        "ROLLBACK",
        "PRAGMA query_only = OFF",
        "SET TRANSACTION READ WRITE",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "VACUUM",
        "SELECT 1 AS a INTO mine",
        "COPY meta TO PROGRAM 'cat > other.db'",
        "SELECT load_extension('other')",
        "SELECT set_config('transaction_read_only', 'off', false) AS a",
        "SELECT 1 AS a FROM meta FOR UPDATE",
        "SELECT nope FROM runs",
        "SELEC 1",
        "SELECT 1 AS a, 2 AS a",
        "SELECT ?",
        "SELECT $1",
        "",
        ";",
        "-- nothing",
        "'",
    ],
)
def test_what_writes_or_is_no_query_is_refused_by_the_database(
    registry: Registry, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, files = everything(registry), {file.name for file in tmp_path.iterdir()}
    with pytest.raises(RegistryError) as refusal:
        ask(registry, query)
    assert "\n" not in str(refusal.value)
    assert everything(registry) == before
    assert {file.name.removesuffix("-wal").removesuffix("-shm") for file in tmp_path.iterdir()} <= files


def test_a_query_that_runs_for_ever_is_stopped(registry: Registry) -> None:
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"more than 0.3 s and was stopped; .*--timeout"):
        ask(registry, FOR_EVER, timeout=0.3)
    assert time.monotonic() - start < 10
    assert ask(registry, "SELECT count(*) FROM runs") == [(2,)]
    newest = registry.get("latest")
    assert registry.add(newest, registry.matrix(newest.id)) == newest


def test_a_query_cannot_lift_its_limit(url: str, registry: Registry, database: str) -> None:
    if database == "sqlite":
        pytest.skip("SQLite has no setting that a query could change")
    lifted = "SELECT set_config('statement_timeout', '0', false), pg_sleep(0.001)::text FROM generate_series(1, 1e6)"
    with pytest.raises(RegistryError, match="stopped"):
        ask(registry, lifted, timeout=0.5)


def test_what_the_reader_takes_for_a_row_does_not_count(registry: Registry) -> None:
    with registry.query(MILLION.replace("1000000", "3000"), timeout=0.5) as answer:
        for number, _ in enumerate(answer.rows):
            if number == 10:
                time.sleep(0.8)
    assert number == 2999


@pytest.mark.parametrize("format", ["csv", "jsonl", "json", "md"])
def test_a_million_rows_are_streamed(url: str, registry: Registry, format: str) -> None:
    limit = 1536 * 2**20
    done = subprocess.run(
        [sys.executable, "-m", "plop_cli", "history", "--registry", url, "--sql", MILLION, "-f", format],
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    if format == "json":
        assert len(json.loads(done.stdout)) == 1_000_000
    else:
        assert done.stdout.count(b"\n") == 1_000_000 + {"csv": 1, "jsonl": 0, "md": 2}[format]


def test_every_format_says_the_same(url: str, registry: Registry) -> None:
    def plop(query: str, format: str) -> str:
        done = CliRunner().invoke(app, ["history", "--registry", url, "--sql", query, "-f", format])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    query = "SELECT model, samples, 0.5 AS half, NULL AS none FROM runs ORDER BY model"
    rows = [{"model": f"org/{name}", "samples": 3, "half": 0.5, "none": None} for name in "ab"]
    assert json.loads(plop(query, "json")) == [json.loads(line) for line in plop(query, "jsonl").splitlines()] == rows
    assert plop(query, "csv") == "model,samples,half,none\norg/a,3,0.5,\norg/b,3,0.5,\n"
    assert plop(query, "md").splitlines()[2:] == ["| org/a | 3 | 0.500 |  |", "| org/b | 3 | 0.500 |  |"]
    assert "org/b" in plop(query, "table")
    none = "SELECT id, model FROM runs WHERE samples > 99"
    assert [plop(none, format) for format in ("json", "jsonl", "csv")] == ["[]\n", "", "id,model\n"]
    moment = json.loads(plop("SELECT created_at, settings FROM runs ORDER BY created_at", "json"))[0]
    assert moment["created_at"] == "2026-01-02 03:04:05.678901"
    assert isinstance(json.loads(moment["settings"]), dict)


@pytest.mark.parametrize("more", [["--model", "a"], ["-n", "3"], ["--kind", "race"], ["--full"], ["--timeout", "0"]])
def test_a_query_stands_alone(tmp_path: Path, more: list[str]) -> None:
    done = CliRunner().invoke(app, ["history", "--registry", str(tmp_path / "r.db"), "--sql", "SELECT 1", *more])
    assert done.exit_code == 2


def test_a_registry_that_is_not_there_is_said_and_not_made(url: str, tmp_path: Path) -> None:
    with Registry(url) as registry, pytest.raises(RegistryError, match="no registry"):
        ask(registry, "SELECT 1 AS a")
    assert list(tmp_path.iterdir()) == []
