"""Folders and files of one name are told apart, whatever is asked of them, and nothing of it moves an id or a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plop_registry import Registry, RegistryError, Run, SampleMatrix
from plop_registry.places import shortest

MakeRun = Callable[..., tuple[Run, SampleMatrix]]

FILES, COMMIT = "f" * 64, "c" * 40
RUNS: dict[str, dict[str, Any]] = {
    "a": {"model_id": "out", "model_path": "/x/a/out"},
    "b": {"model_id": "out", "model_path": "/x/b/out"},
    "b30": {"model_id": "out", "model_label": "checkpoint-30", "model_path": "/x/b/out/checkpoint-30"},
    "alone": {"model_id": "single", "model_path": "/x/single"},
    "file": {"model_id": "m.gguf", "model_path": "/x/m.gguf"},
    "folder": {"model_id": "gpt2", "model_path": "/x/gpt2"},
    "hub": {"model_id": "gpt2", "model_label": "main", "model_revision": COMMIT},
    "old": {"model_id": "out"},
    "lora1": {"model_id": "base", "model_label": "lora", "adapter_path": "/x/one/lora"},
    "lora2": {"model_id": "base", "model_label": "lora", "adapter_path": "/x/two/lora"},
    "d1": {"model_id": "demo", "task_id": "t.jsonl:q", "task_path": "/d/1/t.jsonl"},
    "d2": {"model_id": "demo", "task_id": "t.jsonl:{q}: {a}", "task_path": "/d/2/t.jsonl"},
}


@pytest.fixture
def stored(url: str, make_run: MakeRun) -> dict[str, Run]:
    """The runs in a registry, by name, each a second newer than the one before."""
    with Registry(url) as registry:
        return {
            name: registry.add(
                *make_run(seed, **{"model_label": "", "model_revision": FILES, "task_id": "t", **fields})
            )
            for seed, (name, fields) in enumerate(RUNS.items())
        }


@pytest.mark.parametrize(
    ("paths", "taken", "expected"),
    [
        ([], (), []),
        (["/x/out"], (), ["out"]),
        (["/x/a/out", "/x/b/out"], (), ["a/out", "b/out"]),
        (["/x/out", "/y/x/out"], (), ["/x/out", "y/x/out"]),
        (["/a", "/b/a"], (), ["/a", "b/a"]),
        (["/x/a/out", "/x/b/out", "/x/b/in"], (), ["a/out", "b/out", "in"]),
        (["/x/gpt2"], ("gpt2",), ["x/gpt2"]),
        (["/x/gpt2"], ("gpt2", "x/gpt2"), ["/x/gpt2"]),
        (["/same", "/same"], (), ["same"]),
    ],
)
def test_a_path_is_shown_by_as_much_of_its_end_as_tells_it(
    paths: list[str], taken: tuple[str, ...], expected: list[str]
) -> None:
    found = shortest(paths, taken)
    assert [found[path] for path in dict.fromkeys(paths)] == expected


def test_what_runs_are_called(url: str, stored: dict[str, Run]) -> None:
    with Registry(url) as registry:
        runs = {run.id: run for run in registry.runs()}
    called = {name: runs[run.id] for name, run in stored.items()}
    assert {name: run.model_name for name, run in called.items()} == {
        "a": "a/out", "b": "b/out", "b30": "b/out", "alone": "single", "file": "m.gguf", "folder": "x/gpt2",
        "hub": "gpt2", "old": "out", "lora1": "base", "lora2": "base", "d1": "demo", "d2": "demo",
    }  # fmt: skip
    assert [called[name].label_name for name in ("b30", "hub", "lora1", "lora2")] == [
        "checkpoint-30", "main", "one/lora", "two/lora",
    ]  # fmt: skip
    assert [called[name].task_name for name in ("a", "d1", "d2")] == ["t", "1/t.jsonl:q", "2/t.jsonl:{q}: {a}"]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("a/out/t", "a"),
        ("/x/a/out/t", "a"),
        ("b/out/t", "b30"),
        ("x/b/out/t", "b30"),
        ("b/out@checkpoint-30/t", "b30"),
        ("b/out/checkpoint-30/t", "b30"),
        ("/x/b/out/checkpoint-30/t", "b30"),
        ("single/t", "alone"),
        ("m.gguf/t", "file"),
        ("gpt2/t", "hub"),
        ("x/gpt2/t", "folder"),
        ("base@one/lora/t", "lora1"),
        ("demo/1/t.jsonl", "d1"),
        ("demo/1/t.jsonl:q", "d1"),
        ("demo//d/2/t.jsonl", "d2"),
        ("out/t", {"old", "a", "b30"}),
        ("out@checkpoint-30/t", "b30"),
        ("base@lora/t", {"lora1", "lora2"}),
        ("demo/t.jsonl", {"d1", "d2"}),
        ("*/t", {"old", "a", "b30", "alone", "file", "folder", "hub", "lora2"}),
    ],
)
def test_a_reference_means_one_or_lists_what_it_could(
    url: str, stored: dict[str, Run], reference: str, expected: str | set[str]
) -> None:
    with Registry(url) as registry:
        if isinstance(expected, str):
            assert registry.get(reference).id == stored[expected].id
            return
        with pytest.raises(RegistryError) as refused:
            registry.get(reference)
    assert f"fits {len(expected)} runs" in str(refused.value)
    for name in expected if len(expected) < 6 else ():
        assert stored[name].id in str(refused.value)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"model": "out"}, {"a", "b", "b30", "old"}),
        ({"model": "a/out"}, {"a"}),
        ({"model": "a/out/"}, {"a"}),
        ({"model": "/x/b/*"}, {"b", "b30"}),
        ({"model": "b/o*@check*"}, {"b30"}),
        ({"model": "x/*"}, {"alone", "file", "folder"}),
        ({"model": "single*"}, {"alone"}),
        ({"revision": "one/lora"}, {"lora1"}),
        ({"task": "t.jsonl"}, {"d1", "d2"}),
        ({"task": "2/t.jsonl"}, {"d2"}),
        ({"task": "t.jsonl:q"}, {"d1"}),
        ({"task": "/d/*/t.jsonl"}, {"d1", "d2"}),
    ],
)
def test_filters_take_paths(url: str, stored: dict[str, Run], filters: dict[str, str], expected: set[str]) -> None:
    with Registry(url) as registry:
        assert {run.id for run in registry.runs(**filters)} == {stored[name].id for name in expected}


def test_paths_of_here_are_found_by_what_the_shell_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun
) -> None:
    (tmp_path / "runs" / "out").mkdir(parents=True)
    (tmp_path / "link").symlink_to("runs")
    monkeypatch.chdir(tmp_path / "runs")
    monkeypatch.setenv("HOME", str(tmp_path))
    place = (tmp_path / "runs" / "out").resolve().as_posix()
    with Registry(tmp_path / "r.db") as registry:
        run = registry.add(*make_run(model_id="out", model_path=place, task_id="t"))
        registry.add(*make_run(1, model_id="out", model_path="/elsewhere/out", task_id="t"))
        for given in ("./out", "./out/", "../runs/out", "~/runs/out", "../link/out", place, "runs/out"):
            assert [each.id for each in registry.runs(model=given)] == [run.id], given
            assert registry.get(f"{given.rstrip('/')}/t").id == run.id


def test_what_is_said_of_a_run_is_no_part_of_it(url: str, make_run: MakeRun) -> None:
    """Neither its id nor its key knows, so older runs are found again; exports carry it."""
    run, matrix = make_run()
    said = {"name": "first", "note": "of two", "model_path": "/x/small", "task_path": "/x/gsm8k"}
    with Registry(url) as registry:
        plain = registry.add(run, matrix)
        registry.remove([plain.id])
        stored = registry.add(make_run(**said)[0], matrix)
        assert (stored.id, stored.key, stored.content()) == (plain.id, plain.key, plain.content())
        assert registry.get(stored.id) == stored
        assert registry.check() == []
        (line,) = registry.export_lines()
    assert json.loads(line)["paths"] == {"model": "/x/small", "task": "/x/gsm8k"}
    assert "paths" not in plain.to_dict()
    assert stored.to_dict()["note"] == "of two"
    assert Run.from_content(stored.to_dict(), stored.id) == stored


def test_a_name_and_a_note_can_be_given_later_and_are_verified(url: str, make_run: MakeRun) -> None:
    with Registry(url) as registry:
        first, second = (registry.add(*make_run(seed)) for seed in range(2))
        registry.describe([first.id], name="baseline", note="lr 3e-4")
        registry.describe([first.id], note="lr 1e-4")
        assert registry.get("baseline").id == first.id
        assert (registry.get(first.id).name, registry.get(first.id).note) == ("baseline", "lr 1e-4")
        assert [run.id for run in registry.runs(name="base*")] == [first.id]
        assert [run.id for run in registry.runs(note="*1e-4")] == [first.id]
        registry.describe([second.id], name="baseline")
        with pytest.raises(RegistryError, match=r"'baseline' fits 2 runs: .*give one of these, or its id"):
            registry.get("baseline")
        assert registry.check() == []
        assert len(registry.runs()) == 2, "its seal was made anew"


@pytest.mark.parametrize("digits", [1, 2, 3, 16])
def test_ids_complete_from_two_digits(url: str, make_run: MakeRun, digits: int) -> None:
    with Registry(url) as registry:
        run = registry.add(*make_run())
        start = run.id[:digits]
        if digits > 1:
            assert registry.get(start.upper()).id == run.id
            return
        with pytest.raises(RegistryError) as refused:
            registry.get(start)
    assert str(refused.value) == (
        f"'{start}' is too short for an id; it could be {run.id} (org/small/gsm8k); give two digits or more"
    )


def test_import_takes_what_is_said_of_a_run_and_nothing_a_terminal_obeys(tmp_path: Path, make_run: MakeRun) -> None:
    with Registry(tmp_path / "one.db") as one, Registry(tmp_path / "other.db") as other:
        one.add(*make_run(name="first", model_path="/x/small"))
        (line,) = one.export_lines()
        assert other.import_lines([line], "file") == (1, 0)
        assert list(other.export_lines()) == [line]
        for bad in ('"name":"\\u001b[31m"', '"name":1', '"name":null', '"nickname":"x"'):
            with pytest.raises(RegistryError, match="line 1: not an exported run"):
                other.import_lines([line.replace('"name":"first"', bad)], "file")
