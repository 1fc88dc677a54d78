"""What comes from elsewhere, or from a failing disk: nothing wrong is shown, nothing bad is stored, nothing crashes."""

from __future__ import annotations

import base64
import json
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_cli.progress import watched
from plop_cli.runs.exchange import keep
from plop_cli.runs.grid import score_grid
from plop_cli.runs.jobs import Request
from plop_registry import Registry, RegistryError, Run, SampleMatrix, connections
from plop_registry.runs import canonical, id_of
from plop_registry.transfer import from_line
from small_models import byte_tokenizer, qwen2

MakeRun = Callable[..., tuple[Run, SampleMatrix]]


def plop(*arguments: object) -> Result:
    """`plop ARGUMENTS...`, in this process; a traceback is an error of the test."""
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def execute(registry: Registry, *statements: str) -> None:
    """Meddle with a registry behind its back."""
    with registry._database._engine.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
        connection.commit()


# Reads are verified


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE type_scores SET nfn = nfn + 1 WHERE run = 2",
        "UPDATE type_scores SET nfn = 'x' WHERE run = 2",
        "UPDATE type_scores SET recommended = 1 - recommended WHERE run = 2",
        "DELETE FROM type_scores WHERE run = 2 AND type = 'v_proj'",
        "UPDATE runs SET dtype = 'bfloat16' WHERE number = 2",
        "UPDATE runs SET settings = '{' WHERE number = 2",
        "UPDATE runs SET warnings = '7' WHERE number = 2",
        "UPDATE runs SET created_at = 'yesterday' WHERE number = 2",
        "UPDATE runs SET model = 99 WHERE number = 2",
        "UPDATE runs SET seal = NULL WHERE number = 2",
        "UPDATE runs SET device = CAST(x'ff' AS TEXT) WHERE number = 2",
        "UPDATE runs SET id = 'feedfeedfeedfeed' WHERE number = 2",
        "UPDATE tasks SET samples = 2 WHERE id = (SELECT task FROM runs WHERE number = 2)",
    ],
)
def test_a_run_whose_row_is_damaged_is_named_and_left_out(tmp_path: Path, make_run: MakeRun, change: str) -> None:
    file = tmp_path / "registry.db"
    with Registry(file) as registry:
        runs = [registry.add(*make_run(seed, task_id=f"task {seed}")) for seed in range(3)]
        execute(registry, "PRAGMA foreign_keys = OFF", change)
        damaged = "feedfeedfeedfeed" if "feed" in change else runs[1].id
    here = ("--registry", file)
    listed = plop("history", "--format", "jsonl", *here)
    assert [json.loads(line)["run_id"] for line in listed.stdout.splitlines()] == [runs[2].id, runs[0].id]
    assert f"warning: run {damaged} is damaged and left out; import it again" in listed.stderr
    assert listed.exit_code == 0
    for command in (
        ("compare", "--by", "task"),
        ("report", "-o", tmp_path / "r.md"),
        ("export", "-o", tmp_path / "e.jsonl"),
    ):
        result = plop(*command, *here)
        assert result.exit_code == 0, result.output
        assert f"run {damaged} is damaged and left out" in result.stderr
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == 2
    assert "task 1" not in (tmp_path / "r.md").read_text()
    checked = plop("registry", "check", *here)
    assert checked.exit_code == 1
    assert all(line.startswith((f"run {damaged}: ", "row without")) for line in checked.stdout.splitlines())
    if "seal" not in change:  # which is for listings alone
        assert f"plop: run {damaged} is damaged" in plop("show", damaged, *here).stderr
    assert "nobody can be asked" in plop("rm", damaged, *here).stderr
    assert plop("rm", damaged, "--yes", *here).stdout.splitlines()[-1] == "1 removed"
    assert plop("registry", "check", *here).stdout == "2 runs, all sound\n"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE module_scores SET nfn = nfn + 1 WHERE run = {run} AND position = 0",
        "UPDATE module_scores SET layer = 99 WHERE run = {run} AND position = 0",
        "DELETE FROM module_scores WHERE run = {run} AND position = 7",
        "UPDATE sample_matrices SET sha256 = 'abc' WHERE run = {run}",
        "DELETE FROM sample_matrices WHERE run = {run}",
    ],
)
def test_a_run_whose_modules_are_damaged_is_left_out_where_they_count(
    url: str, make_run: MakeRun, tmp_path: Path, change: str
) -> None:
    with Registry(url) as registry:
        runs = [registry.add(*make_run(seed, key="same", task_id=f"task {seed}")) for seed in range(3)]
        lines = list(registry.export_lines())
        execute(registry, change.format(run=f"(SELECT number FROM runs WHERE id = '{runs[2].id}')"))
        assert registry.find("same") == runs[1]
        assert [run.id for run in registry.runs()] == [run.id for run in runs[::-1]]  # what it shows is sound
        assert [run.id for run in registry.runs(modules=True)] == [run.id for run in runs[1::-1]]
        assert [run.id for run in registry.runs(limit=2, modules=True)] == [run.id for run in runs[1::-1]]
        assert [run.id for run, _ in registry.whole(runs)] == [run.id for run in runs[:2]]
        assert list(registry.export_lines()) == lines[:2]
        for reference in (runs[2].id, "latest"):
            with pytest.raises(RegistryError, match=f"run {runs[2].id} is damaged"):
                registry.get(reference)
        with pytest.raises(RegistryError, match="damaged"):
            registry.matrix(runs[2].id)
        assert (
            len(plop("compare", "--by", "task", "--format", "csv", "--registry", url).stdout.splitlines()) == 1 + 2 * 4
        )
        report = plop("report", "-o", tmp_path / "r.md", "--registry", url)
        assert f"run {runs[2].id} is damaged" in report.stderr
        assert "task 2" not in (tmp_path / "r.md").read_text()
        # Storing it again, as an import does, mends it.
        assert registry.import_lines(lines, "") == (1, 2)
        assert registry.check() == []
        assert registry.get("latest") == runs[2]


def test_a_damaged_run_is_named_once(tmp_path: Path, make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        for seed in range(8):
            registry.add(*make_run(seed))
        execute(registry, "UPDATE runs SET dtype = 'x' WHERE number < 8")
        for _ in range(2):
            assert len(registry.runs()) == 1
    (record,) = caplog.records
    assert "and 2 more are damaged and left out" in record.getMessage()


def test_runs_older_than_seals_get_one_if_they_are_sound(tmp_path: Path, make_run: MakeRun) -> None:
    file = tmp_path / "registry.db"
    shutil.copy(Path(__file__).parent.parent / "schemas" / "0002.db", file)
    with Registry(file) as registry:
        execute(registry, "UPDATE module_scores SET nfn = 7 WHERE run = 1 AND position = 0")
    with Registry(file) as registry:
        assert [run.id for run in registry.runs()] == ["8b2e801ee4f9ef34"]
        assert any(line.startswith("run 01da3ec185c895bd: ") for line in registry.check())


def flipped(tmp_path: Path, make_run: MakeRun, flips: int) -> Iterator[tuple[Path, dict[str, Run], set[str]]]:
    """A registry with 20 runs, again and again with another bit flipped; its runs and its export lines."""
    source, file = tmp_path / "source.db", tmp_path / "registry.db"
    with Registry(source) as registry:
        for seed in range(20):
            names = {"model_id": f"org/{seed % 5}", "task_id": f"task {seed // 5}"}
            registry.add(*make_run(seed, samples=6, per_type=4, **names))
        runs = {run.id: run for run in registry.runs(modules=True)}
        lines = set(registry.export_lines())
    raw, rng = source.read_bytes(), random.Random(0)
    for _ in range(flips):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        for rest in tmp_path.glob("registry.db*"):
            rest.unlink()
        file.write_bytes(damaged)
        yield file, runs, lines


def check_flips(tmp_path: Path, make_run: MakeRun, flips: int) -> int:
    """What is shown is what was stored, what is not is said, and nothing crashes; how many flips `check` notices."""
    noticed = 0
    for file, runs, lines in flipped(tmp_path, make_run, flips):
        here = ("--registry", file)
        listed = plop("history", "-n", "100", "--format", "json", "--full", *here)
        documents = json.loads(listed.stdout or "[]")
        for document in documents:
            assert document == runs[document["run_id"]].to_dict()
        assert len(documents) == 20 or "damaged" in listed.stderr

        shown = plop("show", "latest", "--format", "json", *here)
        if shown.exit_code == 0:
            document = json.loads(shown.stdout)
            assert {**document, "command": ""} == {**runs[document["run_id"]].to_dict(), "command": ""}

        compared = plop("compare", "--by", "task", "--model", "org/1", "--format", "json", *here)
        for row in json.loads(compared.stdout or '{"scores": []}')["scores"]:
            score = next(score for score in runs[row["run_id"]].types if score.type == row["type"])
            assert (row["nfn"], row["stderr"], row["recommended"]) == (score.nfn, score.stderr, score.recommended)

        exported = plop("export", "-o", tmp_path / "runs.jsonl", "--force", *here)
        if exported.exit_code == 0:
            found = (tmp_path / "runs.jsonl").read_text().splitlines()
            assert set(found) <= lines
            assert len(set(found)) == len(found)
            assert len(found) == 20 or "damaged" in exported.stderr

        checked = plop("registry", "check", *here)
        noticed += checked.exit_code == 1
        for result in (listed, shown, compared, exported, checked):
            assert result.exit_code == 0 or result.stdout or len(result.stderr.splitlines()) <= 2, result.output
    return noticed


def test_a_flipped_bit_shows_no_wrong_number(tmp_path: Path, make_run: MakeRun) -> None:
    assert check_flips(tmp_path, make_run, 25) > 5


@pytest.mark.slow
def test_500_flipped_bits_show_no_wrong_number(tmp_path: Path, make_run: MakeRun) -> None:
    assert check_flips(tmp_path, make_run, 500) > 100


# Imports


@pytest.fixture(scope="module")
def line(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An exported run."""
    with Registry(tmp_path_factory.mktemp("one") / "registry.db") as registry:
        run, matrix = make_run()
        registry.add(replace(run, settings={**run.settings, "include": ["vision"]}), matrix)
        return next(registry.export_lines())


def changed(line: str, change: Callable[[dict[str, Any]], None]) -> str:
    """The line with other content, and the id that this content has."""
    content = json.loads(line)
    change(content)
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        content["run_id"] = id_of(Run.from_content(content).content(), matrix_of(line).sha256())
    return canonical(content)


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Puts a value at a place of the content."""

    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


BAD = {
    "a score that its modules do not have": (put("types", 0, "nfn", value=99.0), "contradicts itself: nfn of"),
    "a module that the matrix does not have": (put("modules", 0, "nfn", value=99.0), "contradicts itself"),
    "tokens that the matrix does not have": (put("modules", 0, "tokens", value=99), "contradicts itself"),
    "samples that the matrix does not have": (put("task", "samples", value=2), "its header does not fit"),
    "a count that is wrong": (put("types", 0, "modules", value=3), "contradicts itself"),
    "a type that no module has": (put("types", 0, "type", value="other"), "contradicts itself"),
    "a type twice": (lambda c: c["types"].append(c["types"][0]), "two types have one name"),
    "a module twice": (lambda c: c["modules"].append(c["modules"][0]), "two modules have one name"),
    "a part of no type": (
        lambda c: c.update(parts=[{**score("other"), "part": "q", "modules": 1}]),
        "a part is of no type",
    ),
    "an integer of 64 bits": (put("task", "tokens", value=2**63), "task.tokens"),
    "an integer of 32 bits": (put("modules", 0, "in_features", value=2**31), "modules.0.in_features"),
    "a huge integer in the settings": (put("settings", "seed", value=10**23), "settings.*64 bits"),
    "a negative number of tokens": (put("task", "tokens", value=-1), "task.tokens"),
    "a number as text": (put("types", 0, "nfn", value="1.5"), "types.0.nfn"),
    "a text as number": (put("model", "id", value=7), "model.id"),
    "a truth as number": (put("task", "samples", value=True), "task.samples"),
    "a number as truth": (put("types", 0, "recommended", value=1), "types.0.recommended"),
    "null for a number": (put("task", "tokens", value=None), "task.tokens"),
    "null for a text": (put("device", value=None), "device"),
    "null for a list": (put("warnings", value=None), "warnings"),
    "a list for an object": (put("model", value=[]), "model"),
    "an object for a list": (put("types", value={}), "types"),
    "a key too many": (put("more", value=1), "more"),
    "a key too many inside": (put("types", 0, "more", value=1), "types.0.more"),
    "a negative NFN": (put("modules", 0, "nfn", value=-1.0), "modules.0.nfn"),
    "more than surely": (put("confidence", value=1.5), "confidence"),
    "an escape sequence in a name": (put("model", "id", value="\x1b[2Jorg/small"), "model.id.*control"),
    "an escape sequence of one character": (put("task", "id", value="a\x9b2J"), "task.id.*control"),
    "NUL in a name": (put("modules", 0, "name", value="a\0b"), "modules.0.name.*control"),
    "NUL in the settings": (put("settings", "include", value=["a\0"]), "settings.*control"),
    "half a character": (put("model", "id", value="\ud800"), "not an exported run"),
    "no time": (put("created_at", value="yesterday"), "created_at"),
    "a time without zone": (put("created_at", value="2026-01-01T00:00:00"), "not an exported run"),
    "a time of long ago": (put("created_at", value="0900-01-01T00:00:00Z"), "created_at.*1970"),
    "a format that is no integer": (put("format", value=1.5), "another plop"),
    "a format that is a truth": (put("format", value=True), "another plop"),
    "an id that is none": (lambda c: c["model"].update(id=[]), "model.id"),
}


def score(type: str) -> dict[str, Any]:
    return {"type": type, "nfn": 1.0, "nfn_squared": 1.0, "stderr": None}


@pytest.mark.parametrize("name", BAD)
def test_what_no_run_can_be_is_refused_by_line_and_place(
    name: str, line: str, make_run: MakeRun, new_url: Callable[[], str], tmp_path: Path
) -> None:
    change, said = BAD[name]
    with Registry(new_url()) as registry:
        with pytest.raises(RegistryError, match=rf"runs.jsonl, line 2: .*{said}.*; nothing of this file was stored$"):
            registry.import_lines([line, changed(line, change)], "runs.jsonl")
        assert registry.runs() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format":1,"settings":' + '{"a":' * 5_000 + "1" + "}" * 5_001,
        "1" * 100_000,
        "NaN",
        '"\\ud800"',
        "\ud800",
        "\0",
        '{"format": 1}',
    ],
)
def test_what_is_no_line_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RegistryError, match="not an exported run"):
        from_line(text)


def bomb(samples: int, modules: int, size: int) -> bytes:
    """A few kilobytes that unpack to `size` bytes, under the header of a matrix."""
    stream = zlib.compressobj(9)
    head = stream.compress(struct.pack("<8sII", b"plopmat1", samples, modules))
    return head + b"".join(stream.compress(bytes(1 << 20)) for _ in range(size >> 20)) + stream.flush()


@pytest.mark.parametrize(
    ("samples", "modules"), [(3, 8), (100_000_000, 8), (2**32 - 1, 2**32 - 1), (0, 2**32 - 1), (2**32 - 1, 0)]
)
def test_a_matrix_that_unpacks_to_gigabytes_is_not_unpacked(line: str, samples: int, modules: int) -> None:
    packed = bomb(samples, modules, 300 << 20)
    content = {**json.loads(line), "matrix": base64.b64encode(packed).decode()}
    tracemalloc.start()
    for call in (lambda: from_line(json.dumps(content)), lambda: SampleMatrix.unpack(packed)):
        with pytest.raises(RegistryError, match="matrix is damaged"):
            call()
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_bytes_behind_a_matrix_are_refused(make_run: MakeRun) -> None:
    packed = make_run()[1].pack()
    for damaged in (packed + b"more", packed[:-1], zlib.compress(zlib.decompress(packed) + b"x")):
        with pytest.raises(RegistryError, match="damaged"):
            SampleMatrix.unpack(damaged)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def fuzz(line: str, file: Path, data: st.DataObject) -> None:
    """Change some places of an exported run: it is refused with a RegistryError and leaves nothing, or it is sound."""
    content = json.loads(line)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = content
        while True:
            step = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inner = place[step]
            if not inner or not isinstance(inner, dict | list) or data.draw(st.integers(0, 3)) == 0:
                break
            place = inner
        place[step] = data.draw(values)
    text = json.dumps(content)
    if data.draw(st.booleans()):  # with an id that fits, so that more than the id is looked at
        with suppress(ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            run = Run.from_content(content)
            text = json.dumps({**content, "run_id": id_of(run.content(), matrix_of(line).sha256())})
    if data.draw(st.integers(0, 5)) == 0:
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Registry(file) as registry:
        before = registry.status()["runs"]
        try:
            registry.import_lines([text], "runs.jsonl")
        except RegistryError:
            assert registry.status()["runs"] == before
        else:
            assert registry.check() == []
            registry.remove(run.id for run in registry.runs())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 100 << 10  # KiB


def matrix_of(line: str) -> SampleMatrix:
    return SampleMatrix.unpack(base64.b64decode(json.loads(line)["matrix"]))


FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@given(st.data())
@settings(max_examples=40, **FUZZ)
def test_a_line_with_anything_in_it_is_stored_soundly_or_not_at_all(
    line: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    fuzz(line, tmp_path_factory.getbasetemp() / "fuzz.db", data)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=2_000, **FUZZ)
def test_2000_lines_with_anything_in_them_are_stored_soundly_or_not_at_all(
    line: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    fuzz(line, tmp_path_factory.getbasetemp() / "fuzz.db", data)


@pytest.mark.parametrize("what", ["folder", "device", "no registry", "UTF-16", "a byte order mark"])
def test_files_that_are_not_exported_ones(tmp_path: Path, line: str, what: str) -> None:
    file = tmp_path / "runs.jsonl"
    content = {"no registry": b"\x80\xff" * 99, "UTF-16": line.encode("utf-16"), "a byte order mark": b"\xef\xbb\xbf"}
    if what == "folder":
        file.mkdir()
    elif what == "device":
        file = Path("/dev/null")
    else:
        file.write_bytes(content[what] + (line.encode() if what == "a byte order mark" else b""))
    result = plop("import", file, "--registry", tmp_path / "registry.db")
    assert (result.exit_code == 0) == (what in ("device", "a byte order mark"))
    assert len(result.stderr.splitlines()) == 1


# Names that others chose


HOSTILE = "a\x1b[31mred\x1b[0m\x9b2J\x07\r\u202eevil\x7f"


def test_escape_sequences_of_names_reach_no_terminal_and_no_picture(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    here = ("--registry", tmp_path / "registry.db")
    with Registry(tmp_path / "registry.db") as registry:
        for seed in range(2):
            run, matrix = make_run(seed)
            types = tuple(replace(score, type=score.type + HOSTILE) for score in run.types)
            modules = tuple(replace(m, type=m.type + HOSTILE, name=m.name + HOSTILE) for m in run.modules)
            names = dict.fromkeys(("model_id", "model_label", "dtype", "device", "architecture"), HOSTILE)
            registry.add(
                replace(run, types=types, modules=modules, task_id=f"{seed}{HOSTILE}", warnings=(HOSTILE,), **names),
                matrix,
            )
    for command in (
        "history",
        "history --format md",
        "show latest --map --by module",
        "show latest --by layer",
        "compare --by task",
        "history --format json",
        "show latest --format json",
        "history --model nonesuch",
        "show a/b/nonesuch",
        "rm latest",
        "registry check",
    ):
        result = plop(*command.split(), *here)
        output = result.stdout + result.stderr
        if "json" in command:
            assert json.loads(result.stdout)
        elif not command.endswith("md"):  # that goes into files as it is
            assert not {"\x1b", "\x9b", "\x07", "\r", "\u202e", "\x7f"} & set(output), (command, output)
        assert "\x1b" not in output or command.endswith("md")
        assert "\x9b" not in output or command.endswith("md")
    for name in ("r.html", "r.md"):
        assert plop("report", "-o", tmp_path / name, *here).exit_code == 0
    assert plop("report", "-f", "svg", "-o", tmp_path / "figures", *here).exit_code == 0


def test_a_very_long_name_is_cut_and_stays_another(tmp_path: Path, make_run: MakeRun) -> None:
    here = ("--registry", tmp_path / "registry.db")
    with Registry(tmp_path / "registry.db") as registry:
        for seed in range(2):
            registry.add(*make_run(seed, model_id=f"{'m' * 500_000}{seed}{'m' * 500_000}", task_id="t" * 1_000_000))
    for command in ("history", "show latest", "compare --by model", f"report -o {tmp_path / 'r.html'}"):
        result = plop(*command.split(), *here)
        assert result.exit_code == 0, result.output
        assert len(result.output) < 100_000
    assert len((tmp_path / "r.html").read_text()) < 5_000_000


# The registry's file


@pytest.mark.parametrize("fate", ["deleted", "replaced", "folder deleted"])
def test_a_registry_that_is_gone_when_a_run_is_stored_keeps_it_in_a_file(
    fate: str, tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "home"
    with Registry(folder / "registry.db") as registry:
        registry.upgrade()
        if fate == "folder deleted":
            shutil.rmtree(folder)
        else:
            (folder / "registry.db").unlink()
        if fate == "replaced":
            with Registry(folder / "other.db") as other:
                other.add(*make_run(1))
            (folder / "other.db").rename(folder / "registry.db")
        with pytest.raises(RegistryError, match=r"was deleted or replaced while it was in use.* \(plop import\)"):
            keep(registry, *make_run())
    (kept,) = (folder if folder.exists() else tmp_path).glob("plop-run-*.jsonl")
    assert plop("import", kept, "--registry", tmp_path / "new.db").exit_code == 0
    with Registry(tmp_path / "new.db") as registry:
        run, matrix = make_run()
        assert replace(registry.get("latest"), id="") == run
        assert registry.matrix(registry.get("latest").id).raw() == matrix.raw()
    if fate == "replaced":
        with Registry(folder / "registry.db") as registry:
            assert registry.check() == []
            assert len(registry.runs()) == 1


def test_a_registry_that_is_deleted_while_a_run_is_scored_costs_no_run(tmp_path: Path) -> None:
    qwen2().save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    file = tmp_path / "registry.db"

    def deleting(what: str, *_: object) -> None:
        if what.startswith("scoring "):
            file.unlink(missing_ok=True)

    with Registry(file) as registry, watched(deleting):
        (cell,) = score_grid([str(tmp_path / "model")], ["sample/math"], Request(samples=2), registry)
    (kept,) = tmp_path.glob("plop-run-*.jsonl")
    assert "was deleted or replaced while it was in use" in str(cell.error)
    assert f"the run is kept in {kept} (plop import)" in str(cell.error)
    assert not file.exists()
    assert cell.run is not None
    assert plop("import", kept, "--registry", file).exit_code == 0
    with Registry(file) as registry:
        assert registry.get("latest").content() == cell.run.content()


def test_a_registry_that_is_replaced_while_it_is_written_is_noticed(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        registry.upgrade()
        with pytest.raises(RegistryError, match="was deleted or replaced"), registry._database.writing():
            (tmp_path / "registry.db").rename(tmp_path / "away.db")


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
def test_what_is_no_file_is_no_registry(tmp_path: Path, make_run: MakeRun, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "FIFO":
        os.mkfifo(place)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(place))
    elif kind == "device":
        place = Path("/dev/null")
    else:
        place.mkdir()
    for call in (lambda r: r.runs(), lambda r: r.add(*make_run()), lambda r: r.check()):
        with Registry(place) as registry, pytest.raises(RegistryError, match=r"is no regular file|is a folder"):
            call(registry)


def test_a_registry_that_may_not_be_read_is_one_line(tmp_path: Path, make_run: MakeRun) -> None:
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    with Registry(tmp_path / "registry.db") as registry:
        registry.add(*make_run())
    code = """if True:
        import os, sys
        from plop_registry import Registry, RegistryError
        with Registry(sys.argv[2]) as registry:
            registry.check()
        os.chdir(sys.argv[1])
        os.chmod("registry.db", 0)
        os.chmod(".", 0o755)
        for folder in (".", ".."):
            os.chmod(folder, 0o755)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            Registry("registry.db").runs()
        except RegistryError as error:
            print(error)
    """
    with Registry(tmp_path / "other.db") as registry:
        registry.add(*make_run())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, tmp_path, tmp_path / "other.db"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "unable to open database file; make the file and its folder readable" in done.stdout, done


# Places


@pytest.mark.parametrize(
    "place",
    [
        "host=h user=u password=s3cret dbname=d",
        "dbname=d passwd=s3cret",
        "PASSWORD = s3cret",
        "postgresql:u:s3cret@h/d",
        "postgresql:/u:s3cret@h/d",
        "postgres:u:s3cret@h/d",
        "u:s3cret@h/d",
        "u/x:s3cret@h/d",
        "//u:s3cret@h/d",
        "mysql://u:s3cret@h/d",
        "jdbc:postgresql://h/d?user=u&password=s3cret",
        " postgresql://u:s3cret@h/d",
        "postgresql://u:pw@s3cret@h/d",
        "postgresql://u/x:s3cret@h/d",
        "postgresql://h/d#password=s3cret",
        "postgresql://h/d;password=s3cret",
        "postgresql://u@h:s3cret/d",
    ],
)
def test_what_is_nearly_a_url_is_refused_without_being_repeated(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("registry upgrade", "registry path", "history", "import x.jsonl"):
        result = plop(*command.split(), "--registry", place)
        assert result.exit_code == 1
        assert "s3cret" not in result.output
        assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/d?PASSWORD=s3cret",
        "postgresql://u@h/d?pasword=s3cret",
        "postgresql://u@h/d?sslpassword=s3cret",
        "postgresql://u@h/d?s3cret=1",
        "POSTGRESQL://u:s3cret@h/d",
    ],
)
def test_a_parameter_that_may_be_a_password_is_not_shown(url: str) -> None:
    assert "s3cret" not in Registry(url).url.replace("s3cret=hidden", "")


@pytest.mark.parametrize("name", ["a.db", "./a=b.db", "sub/a:b.db", "ä ö.db", "a?b#c%20.db"])
def test_a_path_is_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    monkeypatch.chdir(tmp_path)
    with Registry(name) as registry:
        registry.add(*make_run())
    assert (tmp_path / name).is_file()


def test_a_home_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = plop("history", "--registry", "~nosuchuser/registry.db")
    assert "begins with a home folder that does not exist" in result.stderr
    monkeypatch.delenv("PLOP_REGISTRY", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user that the system does not know
    monkeypatch.chdir(tmp_path)
    result = plop("history")
    assert result.exit_code == 1
    assert "there is no home folder for a registry" in result.stderr
    assert list(tmp_path.iterdir()) == []


# PostgreSQL


def test_an_unknown_parameter_of_a_url_is_one_line(postgres: Callable[[], str]) -> None:
    result = plop("history", "--registry", postgres() + "&sslmod=require")
    assert "PostgreSQL does not know a parameter of the URL" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    for bad in ("sslmode=nonsense", "connect_timeout=nonsense", "target_session_attrs=nonsense"):
        result = plop("history", "--registry", f"{postgres()}&{bad}")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setitem(connections._SERVER, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = plop("history", "--registry", f"postgresql://u:s3cret@127.0.0.1:{silent.getsockname()[1]}/d")
    assert "timeout" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "s3cret" not in result.output


def test_a_server_that_vanishes_between_statements_is_one_line(postgres: Callable[[], str], make_run: MakeRun) -> None:
    with Registry(postgres()) as registry:
        registry.add(*make_run())
        kill = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

        def vanish() -> None:
            with sa.create_engine(registry._location.url).begin() as other:
                other.execute(kill)

        def read() -> None:
            with registry._database.reading() as reader:
                assert reader is not None
                vanish()
                reader.runs()

        def write() -> None:
            with registry._database.writing() as writer:
                vanish()
                writer.remove(["0" * 16])

        for call in (read, write):
            with pytest.raises(RegistryError, match="check the URL, that the server runs"):
                call()
        assert len(registry.runs()) == 1  # and the next call connects again


@pytest.mark.parametrize(
    ("encoding", "said"), [("SQL_ASCII", "has no encoding"), ("LATIN1", "cannot hold every character")]
)
def test_a_database_of_another_encoding_is_one_line(
    postgres: Callable[[], str], make_run: MakeRun, encoding: str, said: str
) -> None:
    url = postgres().partition("&options")[0]
    name = f"of_{encoding.lower()}"
    with sa.create_engine(url).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    with Registry(url.replace("/postgres?", f"/{name}?")) as registry, pytest.raises(RegistryError, match=said):
        registry.add(*make_run(model_id="模型"))


def test_a_name_that_no_database_can_hold_is_one_line(url: str, make_run: MakeRun) -> None:
    for name in ("a\0b", "a\udcff"):
        with Registry(url) as registry, pytest.raises(RegistryError, match="has NUL or bytes that are no UTF-8"):
            registry.add(*make_run(model_id=name))
    with Registry(url) as registry:
        assert registry.add(*make_run(model_id="a\\u0000")).model_id == "a\\u0000"


def test_a_type_whose_modules_saw_no_token_is_sound(url: str, make_run: MakeRun) -> None:
    """An expert without tokens has no score, and the mean of its type is that of the others."""
    run, matrix = make_run()
    counts, sums = matrix.counts.copy(), matrix.sums.copy()
    counts[:, 0], sums[:, 0] = 0, 0
    matrix = SampleMatrix(matrix.texts, sums, np.where(counts, matrix.squares, 0), counts)
    modules = (replace(run.modules[0], nfn=float("nan"), nfn_squared=float("nan"), tokens=0), *run.modules[1:])
    same = next(module for module in modules[1:] if module.type == modules[0].type)
    types = tuple(
        replace(score, nfn=same.nfn, nfn_squared=same.nfn_squared) if score.type == same.type else score
        for score in run.types
    )
    with Registry(url) as registry:
        registry.add(replace(run, modules=modules, types=types), matrix)
        assert registry.check() == []
