"""Models × tasks: what the registry answers, and under which name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plop_cli.models.options import Loading
from plop_cli.runs.grid import Cell, score_grid
from plop_cli.runs.jobs import Request
from plop_registry import Registry
from small_models import byte_tokenizer, qwen2

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Request(samples=2, loading=Loading(dtype="float32", device="cpu"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A trainer's output: two checkpoints, the last of which is the final model."""
    folder = tmp_path / "out"
    model = qwen2()
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    shutil.copytree(folder, folder / "checkpoint-20", ignore=lambda *_: ["checkpoint-20", "checkpoint-10"])
    (folder / "checkpoint-20" / "trainer_state.json").write_text("{}")
    model.model.layers[0].mlp.up_proj.weight.data.mul_(1.5)
    model.save_pretrained(folder / "checkpoint-10")
    byte_tokenizer().save_pretrained(folder / "checkpoint-10")
    return folder


def scored(registry: Registry, *models: Path, **changes: Any) -> list[Cell]:
    return list(score_grid([str(model) for model in models], ["sample/math"], HERE, registry, **changes))


def names(registry: Registry) -> set[tuple[str, str]]:
    return {(run.model_id, run.model_label) for run in registry.runs()}


@pytest.mark.parametrize("final_first", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_final_model_that_is_its_last_checkpoint_is_recorded_under_both_names(
    output: Path, tmp_path: Path, final_first: bool, at_once: bool
) -> None:
    models = [output / "checkpoint-10", output / "checkpoint-20"]
    models = [output, *models] if final_first else [*models, output]
    with Registry(tmp_path / "registry.db") as registry:
        cells = [cell for some in ([models] if at_once else zip(models)) for cell in scored(registry, *some)]
        assert names(registry) == {("out", ""), ("out", "checkpoint-10"), ("out", "checkpoint-20")}
        asked = {cell.model: cell.run for cell in cells if cell.run}
        final, last = asked[str(output)], asked[str(output / "checkpoint-20")]
        assert (final.model_label, last.model_label) == ("", "checkpoint-20")
        assert (final.key, final.types, final.modules) == (last.key, last.types, last.modules)
        one, other = registry.matrix(final.id), registry.matrix(last.id)
        assert np.array_equal(one.sums, other.sums)
        assert sum(not cell.cached for cell in cells) == 2, "what was scored once is not scored again"
        assert registry.check() == []


def test_asking_again_changes_nothing_whatever_the_order(output: Path, tmp_path: Path) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        scored(registry, output, output / "checkpoint-20")
        before = {run.id for run in registry.runs()}
        for _ in range(2):
            (last,), (final,) = scored(registry, output / "checkpoint-20"), scored(registry, output)
            assert (last.run and last.run.model_label, final.run and final.run.model_label) == ("checkpoint-20", "")
            assert last.cached
            assert final.cached
        assert {run.id for run in registry.runs()} == before


def test_a_registry_that_cannot_be_written_still_answers_under_the_asked_name(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plop_registry import RegistryError

    with Registry(tmp_path / "registry.db") as registry:
        scored(registry, output)
        notes: list[str] = []

        def refuse(*_: Any) -> None:
            raise RegistryError("it is read-only")

        monkeypatch.setattr(registry, "add", refuse)
        (cell,) = scored(registry, output / "checkpoint-20", note=notes.append)
        assert cell.run
        assert (cell.run.model_label, cell.cached, cell.error) == ("checkpoint-20", True, None)
        assert notes == ["the run is not recorded as out@checkpoint-20, only as out: it is read-only"]
