"""Runs that were stored under a revision by SHA-256 are found by the weights that are hashed by BLAKE3 now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from typer.testing import CliRunner

from plop_cli.cli.app import app
from plop_cli.models import fingerprints
from plop_cli.models.fingerprints import formerly
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.progress import watched
from plop_cli.runs import revisions
from plop_cli.runs.grid import Cell, score_grid
from plop_cli.runs.jobs import Request
from plop_registry import Former, Registry, Run
from small_models import byte_tokenizer, qwen2


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "user_cache_path", lambda name: tmp_path / "cache" / name)


@pytest.fixture(params=["folder", "adapter"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    base = tmp_path / "model"
    qwen2().save_pretrained(base)
    byte_tokenizer().save_pretrained(base)
    if request.param == "folder":
        return base
    config = LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    network = get_peft_model(qwen2(), config)
    network.peft_config["default"].base_model_name_or_path = str(base)
    network.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def scored(model: Path, registry: Registry, **options: object) -> Cell:
    (cell,) = score_grid([str(model)], ["sample/math"], Request(**{"samples": 2, **options}), registry)  # type: ignore[arg-type]
    assert cell.error is None
    return cell


def by_sha256(model: Path, registry: Registry, **options: object) -> Run:
    """A run as older versions stored it."""
    with formerly():
        cell = scored(model, registry, **options)
    assert cell.run
    assert len(cell.run.model_revision) == 64
    return cell.run


def test_an_old_run_answers_and_both_names_are_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        old = by_sha256(model, registry)
        cell = scored(model, registry)
        assert (cell.cached, cell.run) == (True, old)
        source = identify(str(model))
        adapter = old.settings["adapter"]
        assert registry.revisions.former(source.revision) == Former(old.model_revision, adapter)
        assert (source.adapter_hash is None) == (adapter is None)
        # Known from now on: nothing is hashed in the old way any more, wherever the memory of hashes is.
        monkeypatch.setattr(revisions, "formerly", lambda: pytest.fail("computed again"))
        shutil.rmtree(tmp_path / "cache")
        assert scored(model, registry).run == old
        assert scored(model, registry, until=0.5).run == old
        more = scored(model, registry, samples=3)
        assert more.run
        assert more.run.model_revision == old.model_revision, "the same weights stay one revision"


def test_without_old_runs_of_the_model_nothing_is_hashed_twice(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "formerly", lambda: pytest.fail("hashed by SHA-256"))
    with Registry(tmp_path / "registry.db") as registry:
        run = scored(model, registry).run
        assert run
        assert run.model_revision.endswith("-b3")
        assert scored(model, registry).cached


def test_old_runs_that_come_later_answer_beside_new_ones(model: Path, tmp_path: Path) -> None:
    """As by an import from somebody whose plop is older."""
    with Registry(tmp_path / "registry.db") as registry:
        new = scored(model, registry).run
        old = by_sha256(model, registry, samples=3)
        assert scored(model, registry).run == new
        assert scored(model, registry, samples=3).run == old
        registry.remove([old.id])
        assert registry.revisions.former(identify(str(model)).revision) is None
        assert scored(model, registry).run == new


def test_other_weights_of_the_same_name_are_not_taken_for_the_old_ones(model: Path, tmp_path: Path) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        by_sha256(model, registry)
        for weights in model.glob("*.safetensors"):
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        assert not scored(model, registry).cached


def test_a_recommendation_goes_by_old_runs_too(tmp_path: Path) -> None:
    base = tmp_path / "model"
    qwen2().save_pretrained(base)
    byte_tokenizer().save_pretrained(base)
    file = tmp_path / "registry.db"
    with Registry(file) as registry:
        old = by_sha256(base, registry, samples=8)
    words = ["recommend", str(base), "--task", "sample/math", "-n", "8", "--registry", str(file)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert f"from the registry ({old.id}" in done.stderr
    with Registry(file) as registry:
        assert len(registry.runs()) == 1


def test_a_model_that_is_changed_while_it_is_scored_is_said_and_not_stored(tmp_path: Path) -> None:
    base = tmp_path / "model"
    qwen2().save_pretrained(base)
    byte_tokenizer().save_pretrained(base)

    def changing(what: str, *_: object) -> None:
        if what.startswith("scoring "):
            (base / "config.json").touch()

    with Registry(tmp_path / "registry.db") as registry, watched(changing):
        (cell,) = score_grid([str(base)], ["sample/math"], Request(samples=2, loading=Loading()), registry)
        assert cell.run is None
        assert cell.error
        assert "config.json was changed while it was read; run this again" in cell.error
        assert registry.runs() == []
