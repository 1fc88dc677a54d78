"""`plop compare` on real scores: its output is pinned, and what it calls significant is what resampling finds.

tests/golden/smollm2.jsonl is `plop score demo -t sample/math -t sample/code -t sample/history -t sample/logic -n 12`;
tests/golden/tuned.jsonl holds the two checkpoints that `tuned.fine_tune` makes. With PLOP_GOLDEN=write, these tests
write tuned.jsonl and the .txt files anew (run them twice: tuned.jsonl comes last).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bootstrap
from plop_cli.cli.app import app
from plop_cli.comparison.compare import compare
from plop_registry import Registry
from tuned import fine_tune

GOLDEN = Path(__file__).parent.parent / "golden"
WRITE = os.environ.get("PLOP_GOLDEN") == "write"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The pinned runs, and a terminal of a fixed width without colour."""
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    registry = Registry()
    for name in ("smollm2", "tuned"):
        registry.import_lines((GOLDEN / f"{name}.jsonl").read_text().splitlines(), name)
    return registry


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare_tasks", ["--by", "task", "--model", "demo", "--baseline", "sample/math"]),
        ("compare_tasks_markdown", ["--by", "task", "--model", "demo", "--format", "md"]),
        ("compare_two", ["demo/sample/math", "demo/sample/code", "--type", "[qkv]_proj"]),
        ("compare_models", ["--by", "model", "--task", "sample/math"]),
        ("compare_revisions", ["--by", "revision", "--model", "tuned"]),
    ],
)
def test_the_output_is_pinned(registry: Registry, name: str, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    shown = "".join(f"{line.rstrip()}\n" for line in result.stdout.splitlines())
    file = GOLDEN / f"{name}.txt"
    if WRITE:
        file.write_text(shown)
    assert shown == file.read_text()


@pytest.mark.parametrize(("model", "paired"), [("demo", False), ("tuned", True)])
def test_what_is_significant_is_so_by_resampling(registry: Registry, model: str, paired: bool) -> None:
    runs = sorted(registry.runs(model=model, modules=True), key=lambda run: (run.task_id, run.model_label))
    matrices = [registry.matrix(run.id) for run in runs]
    comparison = compare(list(zip(runs, matrices, strict=True)))
    types = [module.type for module in runs[0].modules]
    resampled, marked = [], []
    for column, matrix in zip(comparison.others, matrices[1:], strict=True):
        assert bool(column.pairs) == paired
        p = bootstrap.p_values(matrix, matrices[0], types, paired=paired)
        resampled += [p[name] for name in column.differences]
        marked += [difference.significant for difference in column.differences.values()]
    assert bootstrap.marks(resampled) == marked
    assert len(marked) == 7 * len(comparison.others)


def test_checkpoints_are_scored_kept_and_compared_in_order(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pinned runs are what fine-tuning gives here, whatever order the shell lists the folders in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = fine_tune(tmp_path / "tuned")
    here = str(tmp_path / "here.db")
    options = ["--task", "sample/math", "--samples", "16", "--max-length", "128", "--registry", here]
    scored = CliRunner().invoke(app, ["score", *map(str, reversed(folders)), *options], catch_exceptions=False)
    assert scored.exit_code == 0, scored.output
    with Registry(here) as fresh:
        if WRITE:
            (GOLDEN / "tuned.jsonl").write_text("".join(f"{line}\n" for line in fresh.export_lines()))
            return
        for run in fresh.runs():
            (pinned,) = registry.runs(model="tuned", revision=run.model_label)
            assert {s.type: pytest.approx(s.nfn, rel=1e-3) for s in run.types} == {s.type: s.nfn for s in pinned.types}
    shown = CliRunner().invoke(app, ["compare", "--by", "revision", "--registry", here, "--format", "csv"]).stdout
    assert [line.split(",")[2] for line in shown.splitlines()[1:3]] == ["checkpoint-2", "checkpoint-4"]
