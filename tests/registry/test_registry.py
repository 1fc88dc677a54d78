"""The registry, on SQLite and on a real PostgreSQL: nothing lost, nothing wrong, nothing blocked."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plop_registry import Registry, RegistryError, SampleMatrix, connections, default_url, run_key, to_frame
from plop_registry.globs import to_regex
from plop_registry.migrations import HEAD, SCHEMAS, VERSION_TABLE
from plop_registry.runs import Run
from plop_registry.schema import Base

HERE = Path(__file__).parent.parent
MakeRun = Callable[..., tuple[Run, SampleMatrix]]
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    with Registry(url) as registry:
        yield registry


def execute(registry: Registry, *statements: str) -> None:
    """Meddle with a registry behind its back."""
    with registry._database._engine.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
        connection.commit()


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which sees the packages that this one sees."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)


# Values


def test_a_run_is_found_by_its_key_as_it_was_added(registry: Registry, make_run: MakeRun) -> None:
    run, matrix = make_run()
    stored = registry.add(run, matrix)
    assert stored == replace(run, id=stored.id)
    assert registry.find(run.key) == registry.get(stored.id) == stored
    assert registry.matrix(stored.id).raw() == matrix.raw()
    assert registry.runs() == [replace(stored, modules=())]
    assert registry.runs(modules=True) == [stored]
    assert registry.find("another") is None


def test_the_same_run_is_stored_once_and_a_rerun_beside_it(registry: Registry, make_run: MakeRun) -> None:
    run, matrix = make_run()
    first = registry.add(run, matrix)
    assert registry.add(run, matrix) == registry.add(first, matrix) == first
    later = registry.add(replace(run, created_at=run.created_at + timedelta(microseconds=1)), matrix)
    assert registry.find(run.key) == later != first
    assert [run.id for run in registry.runs()] == [later.id, first.id]


def test_every_float_comes_back_with_all_its_bits(registry: Registry, make_run: MakeRun) -> None:
    rng = np.random.default_rng(0)
    drawn = [struct.unpack("<d", rng.bytes(8))[0] for _ in range(500)]
    values = [0.1, 1 / 3, 5e-324, sys.float_info.max, math.nextafter(1, 2), -0.1, 1e22, *filter(math.isfinite, drawn)]
    run, matrix = make_run(per_type=len(values) // 4)
    modules = [replace(module, nfn=value, stderr=value) for module, value in zip(run.modules, values, strict=False)]
    stored = registry.add(replace(run, modules=tuple(modules), duration=0.1 + 0.2), matrix)
    loaded = registry.get(stored.id)
    assert [module.nfn.hex() for module in loaded.modules] == [module.nfn.hex() for module in modules]
    assert [module.stderr for module in loaded.modules] == [module.nfn for module in modules]
    assert loaded == stored


def test_what_is_not_a_number_is_null_in_json_and_comes_back(registry: Registry, make_run: MakeRun) -> None:
    run, matrix = make_run()
    silent = replace(run.modules[0], nfn=math.nan, nfn_squared=math.inf, stderr=math.nan, tokens=0)
    stored = registry.add(replace(run, modules=(silent, *run.modules[1:]), confidence=math.nan), matrix)
    content = json.loads(json.dumps(stored.to_dict(), allow_nan=False))
    assert content["modules"][0]["nfn"] is content["modules"][0]["nfn_squared"] is content["confidence"] is None
    loaded = registry.get(stored.id)
    assert math.isnan(loaded.modules[0].nfn)
    assert math.isnan(loaded.modules[0].nfn_squared)
    assert loaded.modules[0].stderr is loaded.confidence is None


def test_the_json_form_is_the_documented_one(make_run: MakeRun) -> None:
    run, _ = make_run()
    content = run.to_dict(cached=True)
    assert content["created_at"] == "2026-01-02T03:04:05.678901Z"
    assert content["cached"] is True
    assert content["model"]["label"] == "main"
    assert content["task"]["tokens"] == run.tokens
    assert [score["type"] for score in content["types"]] == [score.type for score in run.types]
    assert content["types"][0]["nfn"] == min(score.nfn for score in run.types)
    assert run.recommended == [content["types"][0]["type"]]
    east = replace(run, created_at=run.created_at.astimezone(timezone(timedelta(hours=9))))
    assert east.to_dict() == run.to_dict()


def test_a_naive_time_and_a_foreign_matrix_are_refused(registry: Registry, make_run: MakeRun) -> None:
    run, matrix = make_run()
    with pytest.raises(ValueError, match="aware"):
        replace(run, created_at=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="modules"):
        registry.add(replace(run, modules=run.modules[1:]), matrix)
    with pytest.raises(ValueError, match="fit together"):
        SampleMatrix(matrix.texts[1:], matrix.sums, matrix.squares, matrix.counts)
    registry.add(run, matrix)
    with pytest.raises(ValueError, match="aware"):
        registry.runs(since=datetime(2026, 1, 1))


shapes = st.tuples(st.integers(0, 5), st.integers(0, 5))


@given(
    shapes.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.uint64, shape[0]), *(hnp.arrays(kind, shape) for kind in (np.float32, np.float32, np.int32))
        )
    )
)
def test_a_matrix_survives_packing_bit_by_bit(arrays: tuple[np.ndarray, ...]) -> None:
    matrix = SampleMatrix(*arrays)
    again = SampleMatrix.unpack(matrix.pack())
    for array, name in zip(arrays, ("texts", "sums", "squares", "counts"), strict=True):
        assert getattr(again, name).tobytes() == array.tobytes()
        assert getattr(again, name).shape == array.shape
    assert again.sha256() == matrix.sha256()


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_matrix_with_a_damaged_byte_is_refused(make_run: MakeRun, data: st.DataObject) -> None:
    matrix = make_run()[1]
    packed = bytearray(matrix.pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(RegistryError):
        assert SampleMatrix.unpack(bytes(packed)).sha256() == matrix.sha256()  # a bit that zlib does not look at


def test_each_ingredient_changes_the_key() -> None:
    base = {
        "model_revision": "a",
        "task_id": "t",
        "task_revision": "b",
        "texts_hash": "c",
        "settings": {"samples": 8, "max_length": 256, "seed": 0, "dtype": "float32", "quantization": None}
        | {"chat": False, "adapter": None, "engine": 1},
    }
    changes = [{**base, name: "other"} for name in base if name != "settings"]
    changes += [{**base, "settings": {**base["settings"], name: "other"}} for name in base["settings"]]
    keys = [run_key(**ingredients) for ingredients in (base, *changes)]
    assert len(set(keys)) == len(keys) == 13
    backwards = dict(reversed(base["settings"].items()))
    assert run_key(**{**base, "settings": backwards}) == keys[0]
    with pytest.raises(ValueError, match="JSON"):
        run_key(**{**base, "settings": {"rate": math.nan}})


# Finding runs


@pytest.fixture
def shelf(registry: Registry, make_run: MakeRun) -> tuple[Registry, dict[str, Run]]:
    """Eight runs, named by their order in time."""
    models = [("org/small", "main"), ("org/large", "main"), ("/data/run/checkpoint-100", "checkpoint-100")]
    places = [(model, task) for task in ("gsm8k", "file:/data/a_b.txt") for model in models]
    places += [(("org/small", "v1.0"), "gsm8k"), (("Org/Small", ""), "gsm8k")]
    runs = {}
    for seed, ((model, label), task) in enumerate(places):
        fields = {"model_id": model, "model_label": label, "model_revision": f"{label or 'none'}-{seed:04x}"}
        runs[str(seed)] = registry.add(*make_run(seed, task_id=task, **fields))
    return registry, runs


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "76543210"),
        ({"limit": 3}, "765"),
        ({"model": "org/small"}, "630"),
        ({"model": "org/*"}, "64310"),
        ({"model": "[oO]rg/?mall"}, "7630"),
        ({"model": "[!/]*"}, "764310"),
        ({"model": "org/small@v1.0"}, "6"),
        ({"model": "org/*@main"}, "4310"),
        ({"model": "org/small@main-0003"}, "3"),
        ({"model": "org/small", "limit": 2}, "63"),
        ({"model": "org.small"}, ""),
        ({"task": "gsm8k"}, "76210"),
        ({"task": "file:*a_b.txt"}, "543"),
        ({"task": "file:*a?b.txt", "model": "*checkpoint*"}, "5"),
        ({"revision": "v1.0"}, "6"),
        ({"revision": "checkpoint-*"}, "52"),
        ({"revision": "main-"}, "4310"),
        ({"since": START + timedelta(seconds=6)}, "76"),
        ({"until": START + timedelta(seconds=1)}, "10"),
        ({"since": (START + timedelta(seconds=3)).astimezone(timezone(timedelta(hours=-5))), "limit": 9}, "76543"),
        ({"since": START + timedelta(days=1)}, ""),
    ],
)
def test_filters(shelf: tuple[Registry, dict[str, Run]], filters: dict[str, Any], expected: str) -> None:
    registry, runs = shelf
    assert [run.id for run in registry.runs(**filters)] == [runs[name].id for name in expected]
    if "limit" not in filters:
        assert [json.loads(line)["run_id"] for line in registry.export_lines(**filters)] == [
            runs[name].id for name in reversed(expected)
        ]


@given(pattern=st.text("ab*?[]!^-\\.+", max_size=6), name=st.text("ab]^-\\.", max_size=4))
def test_globs_are_the_shells(pattern: str, name: str) -> None:
    """As `fnmatch` reads them, apart from descending ranges, which it reads as nothing and the registry refuses."""
    try:
        fits = re.search(to_regex(pattern), name) is not None
    except RegistryError:
        assert re.search(r"\[.*-.*\]", pattern)
    else:
        assert fits == fnmatch.fnmatchcase(name, pattern)


def test_a_run_is_got_by_every_name_it_has(shelf: tuple[Registry, dict[str, Run]]) -> None:
    registry, runs = shelf
    for run in runs.values():
        assert registry.get(run.id) == registry.get(run.id[:8]) == registry.get(run.id[:9].upper()) == run
    assert registry.get("latest") == runs["7"]
    assert registry.get("org/small/gsm8k") == runs["6"]
    assert registry.get("org/small@main/gsm8k") == runs["0"]
    assert registry.get("org/large/file:/data/a_b.txt") == runs["4"]
    assert registry.get("/data/run/checkpoint-100/file:/data/a_b.txt") == runs["5"]


def test_an_unknown_reference_names_the_nearest(shelf: tuple[Registry, dict[str, Run]]) -> None:
    registry, runs = shelf
    typo = runs["3"].id[:-1] + ("0" if runs["3"].id[-1] != "0" else "1")
    with pytest.raises(RegistryError, match=f"no run '{typo}'; nearest: {runs['3'].id} "):
        registry.get(typo)
    with pytest.raises(RegistryError, match="nearest: org/small/gsm8k"):
        registry.get("org/smal/gsm8k")
    with pytest.raises(RegistryError, match="no run 'zz'"):
        registry.get("zz")


def test_an_ambiguous_prefix_lists_the_candidates(registry: Registry, make_run: MakeRun) -> None:
    ids = [registry.add(*make_run(seed)).id for seed in range(2)]
    execute(registry, f"UPDATE runs SET id = '{ids[0][:6]}0123456789' WHERE id = '{ids[1]}'")
    with pytest.raises(RegistryError, match=rf"fits 2 runs: {ids[0][:6]}.*{ids[0]} \(org/small/gsm8k\); give more"):
        registry.get(ids[0][:6])


def test_a_registry_that_does_not_exist_reads_as_empty(url: str, database: str) -> None:
    with Registry(url) as registry:
        assert registry.runs() == []
        assert registry.find("key") is None
        assert list(registry.export_lines()) == []
        assert registry.check() == []
        assert registry.remove(["0" * 16]) == 0
        assert registry.status()["schema"] is None
        for reference in ("latest", "abcd"):
            with pytest.raises(RegistryError, match="is empty"):
                registry.get(reference)
        with pytest.raises(RegistryError, match="no run"):
            registry.matrix("abcd")
    if database == "sqlite":
        assert not Path(url).exists()


def test_removing_a_run_removes_all_that_is_its_own(shelf: tuple[Registry, dict[str, Run]]) -> None:
    registry, runs = shelf
    assert registry.remove([runs["2"].id, runs["5"].id, "0" * 16]) == 2
    assert registry.status() | {"bytes": 0} == {
        "url": registry.url,
        "schema": HEAD,
        "head": HEAD,
        "runs": 6,
        "models": 6,
        "tasks": 2,
        "bytes": 0,
    }
    assert registry.check() == []
    assert registry.remove(run.id for run in runs.values()) == 6
    with registry._database.reading() as reader:
        counts = [reader._connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) for table in Base.metadata.tables]
    assert sum(counts) == 1  # meta


def test_queries_use_the_indexes(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        registry.add(*make_run())
        engine = registry._database._engine

        def plan(call: Callable[[], object]) -> str:
            seen: list[tuple[str, Any]] = []
            listener = ("before_cursor_execute", lambda *event: seen.append((event[2], event[3])))
            sa.event.listen(engine, *listener)
            call()
            sa.event.remove(engine, *listener)
            with engine.connect() as connection:
                selects = [each for each in seen if each[0].startswith("SELECT")]
                steps = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values) for sql, values in selects]
                return "\n".join(row[3] for rows in steps for row in rows)

        find = plan(lambda: registry.find("key"))
        assert "SEARCH runs USING INDEX ix_runs_key_created_at" in find
        assert "TEMP B-TREE" not in find
        listing = plan(lambda: registry.runs(limit=20))
        assert "SCAN runs USING INDEX ix_runs_created_at_id" in listing
        assert "SEARCH type_scores USING PRIMARY KEY" in listing
        assert "TEMP B-TREE" not in listing
        assert "module_scores" not in listing
        assert "sample_matrices" not in listing
        assert "SEARCH runs USING INDEX ix_runs_model_created_at" in plan(lambda: registry.runs(model="org/*"))
        assert "SEARCH runs USING INDEX ix_runs_task_created_at" in plan(lambda: registry.runs(task="gsm8k"))
        run_id = registry.runs()[0].id
        one = plan(lambda: (registry.get(run_id), registry.matrix(run_id)))
        assert "SEARCH runs USING INDEX sqlite_autoindex_runs_1 (id=?)" in one
        assert "SEARCH module_scores USING PRIMARY KEY" in one
        assert "SEARCH sample_matrices USING INTEGER PRIMARY KEY" in one


# Export and import


def test_export_import_export_gives_the_same_bytes(new_url: Callable[[], str], make_run: MakeRun) -> None:
    with Registry(new_url()) as here, Registry(new_url()) as there:
        for seed in (5, 1, 3):
            here.add(*make_run(seed))
        lines = list(here.export_lines())
        assert there.import_lines(lines, "runs.jsonl") == (3, 0)
        assert list(there.export_lines()) == lines
        assert there.import_lines([*lines, "", "\n"], "runs.jsonl") == (0, 3)
        assert there.runs(modules=True) == here.runs(modules=True)
        assert there.check() == []


def test_overlapping_exports_give_the_same_registry_in_any_order(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "all.db") as registry:
        for seed in range(6):
            registry.add(*make_run(seed))
        lines = list(registry.export_lines())
    for number, order in enumerate(itertools.permutations([lines[:4], lines[2:], lines[1:5]])):
        with Registry(tmp_path / f"{number}.db") as registry:
            assert sum(registry.import_lines(each, "")[0] for each in order) == 6
            assert list(registry.export_lines()) == lines


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda line: line[:-20], "not an exported run"),
        (lambda line: "[]", "not an exported run"),
        (lambda line: line.replace('"key"', '"kye"'), "not an exported run"),
        (lambda line: line.replace('"duration":1.5', '"duration":1.25'), "does not match"),
        (lambda line: line.replace('"matrix":"', '"matrix":"A'), "not an exported run"),
        (lambda line: line.replace('"matrix":"eJ', '"matrix":"eK'), "damaged"),
        (lambda line: line.replace('"format":1', '"format":2'), "upgrade"),
    ],
)
def test_a_damaged_line_is_refused_and_nothing_is_stored(
    registry: Registry, new_url: Callable[[], str], make_run: MakeRun, damage: Callable[[str], str], reason: str
) -> None:
    for seed in range(3):
        registry.add(*make_run(seed))
    lines = list(registry.export_lines())
    assert damage(lines[1]) != lines[1]
    with Registry(new_url()) as other:
        with pytest.raises(RegistryError, match=f"runs.jsonl, line 2: .*{reason}.*; nothing of this file was stored"):
            other.import_lines([lines[0], damage(lines[1]), lines[2]], "runs.jsonl")
        assert other.runs() == []


def test_a_frame_has_a_row_for_each_type(registry: Registry, make_run: MakeRun) -> None:
    pytest.importorskip("pandas")
    registry.add(*make_run())
    frame = to_frame(registry.runs())
    assert len(frame) == 4
    assert frame["type"].tolist() == [score.type for score in registry.runs()[0].types]
    assert to_frame([]).columns.tolist() == frame.columns.tolist()


# Trust


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE type_scores SET nfn = nfn * 1.01 WHERE type = 'v_proj'", "nfn of v_proj is not the mean"),
        ("UPDATE type_scores SET modules = 3 WHERE type = 'v_proj'", "v_proj says 3 modules and has 2"),
        ("DELETE FROM type_scores WHERE type = 'v_proj'", "types are not those"),
        ("DELETE FROM module_scores WHERE position = 0", "has 1"),
        ("UPDATE module_scores SET nfn_squared = 7 WHERE position = 0", "does not agree with its matrix"),
        ("UPDATE module_scores SET tokens = 7000 WHERE position = 0", "says 7000 tokens"),
        ("UPDATE runs SET device = 'abacus'", "does not match its id"),
        ("UPDATE sample_matrices SET sha256 = 'abc'", "hash has changed"),
        ("UPDATE sample_matrices SET packed = CAST(sha256 AS {bytes})", "matrix is damaged"),
        ("DELETE FROM sample_matrices", "matrix is missing"),
    ],
)
def test_check_finds_what_was_changed_behind_its_back(
    registry: Registry, make_run: MakeRun, database: str, change: str, problem: str
) -> None:
    run = registry.add(*make_run())
    assert registry.check() == []
    execute(registry, change.format(bytes="bytea" if database == "postgres" else "blob"))
    found = registry.check()
    assert any(problem in line for line in found), found
    assert all(line.startswith(f"run {run.id}: ") for line in found)


def test_check_finds_rows_without_their_run(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        registry.add(*make_run())
        execute(registry, "PRAGMA foreign_keys = OFF", "DELETE FROM runs", "PRAGMA foreign_keys = ON")
        assert any("without its parent" in line for line in registry.check())


def test_the_schema_itself_refuses_what_must_not_be(registry: Registry, make_run: MakeRun) -> None:
    registry.add(*make_run())
    for change in (
        "INSERT INTO runs SELECT 99, id, key, created_at, model, task, dtype, tokens, settings, plop_version, versions,"
        " device, duration, confidence, skipped, warnings, parts, seal, name, note FROM runs",
        "INSERT INTO models SELECT 99, source, revision, label, architecture, path, adapter_path FROM models",
        "INSERT INTO tasks SELECT 99, source, revision, texts_hash, samples, path FROM tasks",
        "UPDATE module_scores SET name = 'same'",
        "UPDATE runs SET model = 99",
        "UPDATE type_scores SET run = 99",
    ):
        with pytest.raises(sa.exc.IntegrityError):
            execute(registry, change)


def test_a_damaged_matrix_is_not_handed_out(registry: Registry, make_run: MakeRun) -> None:
    run, other = registry.add(*make_run(0)), registry.add(*make_run(1))
    execute(
        registry,
        "UPDATE sample_matrices SET packed = (SELECT packed FROM sample_matrices ORDER BY run DESC LIMIT 1) "
        f"WHERE run = (SELECT number FROM runs WHERE id = '{run.id}')",
    )
    with pytest.raises(RegistryError, match=rf"matrix is damaged \(its hash has changed\) in run {run.id}"):
        registry.matrix(run.id)
    registry.matrix(other.id)


def test_a_backup_is_a_registry_and_overwrites_nothing(registry: Registry, make_run: MakeRun, tmp_path: Path) -> None:
    run = registry.add(*make_run())
    target = tmp_path / "backup.db"
    if registry.url.startswith("postgresql"):
        with pytest.raises(RegistryError, match="pg_dump"):
            registry.backup(target)
        return
    registry.backup(target)
    with Registry(target) as copy:
        assert copy.get("latest") == run
        assert copy.check() == []
    with pytest.raises(RegistryError, match="exists"):
        registry.backup(target)
    with pytest.raises(RegistryError, match="no registry at"):
        Registry(tmp_path / "missing.db").backup(tmp_path / "other.db")
    with pytest.raises(RegistryError, match="cannot write"):
        registry.backup(tmp_path / "missing" / "backup.db")


# Schemas


def differences(registry: Registry) -> list[Any]:
    """Between the tables that are there and those that models.py describes."""
    with registry._database._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def test_migrations_make_the_tables_that_the_models_describe(registry: Registry) -> None:
    registry.upgrade()
    assert differences(registry) == []


def test_every_migration_is_listed_with_the_plop_that_knows_it() -> None:
    config = Config()
    config.set_main_option("script_location", "plop_registry:migrations")
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(SCHEMAS)
    assert scripts.get_current_head() == HEAD


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_frozen_database_of_every_schema_opens(schema: str, tmp_path: Path, make_run: MakeRun) -> None:
    """A new schema's file is made, once, before its release: delete nothing, run this test with PLOP_FREEZE=1."""
    frozen = HERE / "schemas" / f"{schema}.db"
    if os.environ.get("PLOP_FREEZE") and not frozen.exists():
        frozen.parent.mkdir(exist_ok=True)
        with Registry(frozen) as registry:
            for seed in range(2):
                registry.add(*make_run(seed, per_type=1))
    shutil.copy(frozen, tmp_path / "registry.db")
    with Registry(tmp_path / "registry.db") as registry:
        assert [run.id for run in registry.runs()] == ["8b2e801ee4f9ef34", "01da3ec185c895bd"]
        assert registry.check() == []
        assert registry.status()["schema"] == HEAD
        assert differences(registry) == []


def test_a_registry_of_a_newer_plop_is_refused_with_the_version_to_install(registry: Registry, url: str) -> None:
    registry.upgrade()
    execute(registry, "UPDATE plop_schema SET version_num = '9999'", "UPDATE meta SET value = '9.8.7'")
    with Registry(url) as older:
        for call in (older.runs, older.upgrade, older.check):
            with pytest.raises(RegistryError, match=r"newer plop; pip install --upgrade 'plop-cli>=9\.8\.7'"):
                call()


def test_a_fresh_registry_may_be_opened_by_several_processes_at_once(url: str) -> None:
    code = "import sys, plop_registry as p; sys.stdin.read(1); print(p.Registry(sys.argv[1]).upgrade())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code, url], env=environment, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("g")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert outputs == [(f"{HEAD}\n", "")] * 4


def test_a_database_of_something_else_is_left_alone(registry: Registry, url: str, database: str) -> None:
    execute_on = sa.create_engine(url if database == "postgres" else f"sqlite:///{url}")
    with execute_on.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR)"))
        before = connection.execute(sa.text("PRAGMA journal_mode")).scalar() if database == "sqlite" else None
    for call in (registry.runs, registry.upgrade):
        with pytest.raises(RegistryError, match="holds something else"):
            call()
    with execute_on.begin() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        assert before == (connection.execute(sa.text("PRAGMA journal_mode")).scalar() if before else None)
    execute_on.dispose()


def test_readers_do_not_wait_for_a_writer_and_writers_wait_so_long(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.1)
    with Registry(tmp_path / "registry.db") as one, Registry(tmp_path / "registry.db") as other:
        run = one.add(*make_run())
        with one._database.writing() as writer:
            writer.remove([run.id])
            assert other.get("latest") == run
            with pytest.raises(RegistryError, match="another process has been writing for too long"):
                other.add(*make_run(1))
        assert other.runs() == []


def test_a_guest_of_a_postgres_registry_may_read_it(postgres: Callable[[], str], make_run: MakeRun) -> None:
    url = postgres()
    with Registry(url) as registry:
        registry.upgrade()
        schema = url.rpartition("search_path%3D")[2]
        execute(registry, "CREATE ROLE guest LOGIN", f"GRANT USAGE ON SCHEMA {schema} TO guest")
    with Registry(url.replace("plop@", "guest@")) as guest:
        with pytest.raises(RegistryError, match=r"permission denied .* that you may use the database"):
            guest.runs()
        with Registry(url) as registry:
            run = registry.add(*make_run())
            execute(registry, f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO guest")
        assert guest.get("latest") == run
        with pytest.raises(RegistryError, match="permission denied"):
            guest.add(*make_run(1))


# Places


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLOP_REGISTRY", "~/elsewhere.db")
    assert default_url() == "~/elsewhere.db"
    assert Registry().url == str(tmp_path / "elsewhere.db")
    monkeypatch.delenv("PLOP_REGISTRY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_url().endswith("registry.db")
    monkeypatch.chdir(tmp_path)
    assert Registry("a.db").url == Registry("sqlite:///a.db").url == str(tmp_path / "a.db")
    assert Registry(f"sqlite:///{tmp_path}/a.db").url == str(tmp_path / "a.db")
    for url in ("postgresql://u@h/d", "postgres://u@h/d", "postgresql+psycopg://u@h/d"):
        assert Registry(url).url == "postgresql+psycopg://u@h/d"
    for url in ("mysql://u:secret@h/d", "sqlite://", "postgresql://u:secret@h:port/d"):
        with pytest.raises(RegistryError) as caught:
            Registry(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cr%40t@h/d", "postgresql://u@h/d?password=s3cr%40t&sslpassword=s3cr@t"]
)
def test_a_password_is_never_shown(url: str) -> None:
    registry = Registry(url + ("&" if "?" in url else "?") + "host=/nonexistent")
    texts = [repr(registry), registry.url]
    with pytest.raises(RegistryError, match="check the URL") as caught:
        registry.runs()
    assert not any("s3cr" in text for text in [*texts, str(caught.value)])
    assert "***" in registry.url or registry.url.count("password=hidden") == 2


def test_a_postgres_registry_without_psycopg_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(RegistryError, match=r"pip install 'plop-cli\[postgres\]'"):
        Registry("postgresql://u@h/d").runs()


def test_a_file_that_is_no_registry_is_refused_and_kept(tmp_path: Path, make_run: MakeRun) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, " * 100)
    for call in (lambda r: r.runs(), lambda r: r.add(*make_run())):
        with Registry(file) as registry, pytest.raises(RegistryError, match="not an SQLite file"):
            call(registry)
        with Registry(tmp_path) as registry, pytest.raises(RegistryError, match="is a folder"):
            call(registry)
    assert file.read_text() == "not a database, " * 100
    with Registry(file / "registry.db") as registry, pytest.raises(RegistryError, match="cannot write the registry"):
        registry.add(*make_run())
    assert Registry(file / "registry.db").runs() == []


def test_a_file_system_without_shared_memory_is_refused(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's "unix-dotfile" file system cannot do write-ahead logging, as network file systems cannot."""
    real = connections._opened
    monkeypatch.setattr(connections, "_opened", lambda path, query: real(path, f"{query}&vfs=unix-dotfile"))
    with (
        Registry(tmp_path / "registry.db") as registry,
        pytest.raises(RegistryError, match="put the registry on a local"),
    ):
        registry.add(*make_run())


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of the machine may enter, as pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="plop-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("writer", ["has closed it", "has it open", "has crashed"])
def test_a_registry_that_may_only_be_read_can_be_read(public: Path, make_run: MakeRun, writer: str) -> None:
    file = public / "registry.db"
    with Registry(file) as registry:
        run = registry.add(*make_run())
        registry.backup(public / "warm.db")
        if writer == "has closed it":
            registry.close()
        elif writer == "has crashed":
            for name in ("registry.db", "registry.db-wal"):
                shutil.copy(public / name, public / f"crashed-{name}")
            file = public / "crashed-registry.db"
        file.chmod(0o444)
        public.chmod(0o555)
        code = """if True:
            import os, sys
            from plop_registry import Registry, RegistryError
            with Registry(sys.argv[2]) as registry:
                registry.check()  # imports everything, which another user might not be able to
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            registry = Registry(sys.argv[1])
            try:
                run = registry.get("latest")
                print(run.id, len(registry.runs()), registry.check())
                registry.add(run, registry.matrix(run.id))
            except RegistryError as error:
                print(error)
        """
        done = python(code, str(file), str(public / "warm.db"))
    if writer == "has crashed":
        assert "was not closed and cannot be written; copy it and crashed-registry.db-wal" in done.stdout, done
    else:
        assert done.stdout.startswith(f"{run.id} 1 []\n"), done
        assert "give a writable path" in done.stdout


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, make_run: MakeRun) -> None:
    file = tmp_path / "registry.db"
    with Registry(file) as registry:
        registry.add(*make_run())
        lines = list(registry.export_lines())
    code = """if True:
        import resource, sys
        from dataclasses import replace
        from datetime import timedelta
        from plop_registry import Registry, RegistryError
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
        registry = Registry(sys.argv[1])
        run = registry.get("latest")
        matrix = registry.matrix(run.id)
        try:
            for second in range(1, 1000):
                registry.add(replace(run, created_at=run.created_at + timedelta(seconds=second)), matrix)
                print(second, flush=True)
        except RegistryError as error:
            print(error)
    """
    *stored, message = python(code, str(file)).stdout.splitlines()
    assert "disk is full" in message
    with Registry(file) as registry:
        assert len(registry.runs()) == 1 + len(stored) > 10
        assert registry.check() == []
        assert next(registry.export_lines()) == lines[0]


# Cost


def test_importing_and_reading_need_neither_torch_nor_alembic(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        registry.add(*make_run())
    code = """if True:
        import sys
        import plop_registry
        from plop_registry import Registry
        def loaded(*names): return [name for name in names if name in sys.modules]
        assert Registry(sys.argv[2]).runs() == []
        print(loaded("sqlalchemy", "numpy", "pandas", "alembic", "torch", "transformers"))
        assert len(Registry(sys.argv[1]).runs()) == 1
        print(loaded("numpy", "pandas", "alembic", "torch", "transformers", "datasets", "psycopg", "plop_cli"))
    """
    done = python(code, str(tmp_path / "registry.db"), str(tmp_path / "missing.db"))
    assert done.stdout == "[]\n[]\n", done
