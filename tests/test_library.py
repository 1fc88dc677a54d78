"""From Python, by name and with the registry, what the commands do."""

from __future__ import annotations

from pathlib import Path

import pytest

from plop_cli import PlopError, compare_runs, recommend_runs, score_model, write_report
from plop_registry import Registry, RegistryError

FEW = {"samples": 8, "max_length": 32}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two runs of the demo model."""
    path = tmp_path_factory.mktemp("library") / "registry.db"
    for task in ("sample/math", "sample/code"):
        score_model("demo", task, registry=path, **FEW)
    return path


def test_a_model_is_scored_once_and_then_answered_from_the_registry(registry: Path) -> None:
    with Registry(registry) as store:
        run = score_model("demo", "sample/math", registry=store, **FEW)
        assert len(store.runs()) == 2
        assert run == store.get("demo/sample/math")


def test_a_placement_comes_of_stored_runs(registry: Path) -> None:
    placement = recommend_runs("demo/sample/math", "demo/sample/code", registry=registry, rank=4)
    assert placement.tasks == ("sample/math", "sample/code")
    assert placement.rank == 4


def test_runs_are_compared_by_an_axis_or_by_name(registry: Path) -> None:
    by_task = compare_runs(by="task", model="demo", registry=registry)
    named = compare_runs("demo/sample/code", "demo/sample/math", registry=registry)
    assert [column.name for column in by_task.columns] == [column.name for column in named.columns]
    assert by_task.sentence == named.sentence


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_a_report_is_written_whole_and_not_over_another(name: str, registry: Path, tmp_path: Path) -> None:
    path = write_report(tmp_path / name, "demo/sample/math", registry=registry, title="Mine")
    assert "Mine" in path.read_text()
    with pytest.raises(PlopError, match="exists; --overwrite replaces it"):
        write_report(path, registry=registry)
    write_report(path, registry=registry, model="demo", force=True)
    assert "sample/code" in path.read_text()


def test_what_cannot_be_done_is_said(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(PlopError, match="no task 'nonesuch'"):
        score_model("demo", "nonesuch", registry=registry)
    with pytest.raises(RegistryError, match="no run 'demo/nonesuch'"):
        recommend_runs("demo/nonesuch", registry=registry)
    with pytest.raises(PlopError, match="what is to be compared"):
        compare_runs(registry=registry)
    with pytest.raises(PlopError, match=r"neither \.html nor \.md"):
        write_report(tmp_path / "report.pdf", registry=registry)
