"""What a model is made of is told once for each revision, and then read from the registry, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from plop_cli.models.loading import skeleton
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.network.anatomy import anatomy
from plop_cli.runs import anatomies
from plop_registry import Anatomy, Registry, RegistryError, Shape
from small_models import byte_tokenizer, qwen2

HEAVY = "{'torch', 'transformers', 'peft', 'datasets', 'pandas'}"
ANATOMY = Anatomy("ToyForCausalLM", ("a", "b"), (Shape("a", "a", 4, 8), Shape("b", "b", 8, 4)), 64, ("a",), ("b",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    qwen2().save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_an_anatomy_comes_back_as_it_was_stored(new_url: object) -> None:
    with Registry(new_url()) as registry:  # type: ignore[operator]
        assert registry.anatomy("r1", "5.0") is None
        registry.keep_anatomy("r1", "5.0", ANATOMY)
        registry.keep_anatomy("r1", "5.0", ANATOMY)
        assert registry.anatomy("r1", "5.0") == ANATOMY
        assert registry.anatomy("r1", "5.1") is None, "another transformers may name modules otherwise"
        registry.remove(["nonesuch"])
        assert registry.anatomy("r1", "5.0") is None, "no run is of this model any more"


@pytest.mark.parametrize("packed", [b"", b"x", ANATOMY.pack()[:-4], Anatomy("", (), (), 0, (), ()).pack()[1:]])
def test_a_damaged_anatomy_is_said(packed: bytes) -> None:
    with pytest.raises(RegistryError, match="the anatomy of the model is damaged"):
        Anatomy.unpack(packed)


def test_what_is_stored_is_what_the_model_tells(model: Path, tmp_path: Path) -> None:
    source = identify(str(model))
    with Registry(tmp_path / "registry.db") as registry:
        told = anatomies.anatomy_of(source, Loading(), registry)
        assert told == anatomy(skeleton(source))
        assert registry.status()["schema"] is None, "nothing is stored before there is something to store it for"
        anatomies.keep(source, told, registry)
        assert anatomies.anatomy_of(source, Loading(), registry) == told


@pytest.mark.parametrize(
    "options",
    [
        ["--task", "sample/math"],
        ["--task", "TEXTS", "--match", "mlp:1"],
        ["--task", "sample/math", "--budget", "1M", "--types", "2", "--invert", "--format", "json"],
        ["--task", "sample/math", "--task", "TEXTS", "--format", "peft"],
        ["--run", "latest", "--format", "axolotl"],
    ],
)
def test_a_recommendation_of_stored_runs_needs_no_torch(model: Path, tmp_path: Path, options: list[str]) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(f'{{"text": "text number {i}, of some words"}}\n' for i in range(9)))
    words = [str(texts) if word == "TEXTS" else word for word in options]
    common = ["recommend", str(model), *words, "--samples", "8", "--registry", str(tmp_path / "registry.db")]
    probe = (
        "import sys; from typer.testing import CliRunner; from plop_cli.cli.app import app\n"
        f"found = CliRunner().invoke(app, {common!r}, catch_exceptions=False)\n"
        f"print(found.exit_code, sorted({HEAVY} & set(sys.modules)))\n"
    )
    first = [*common[:2], "--task", "sample/math", *common[-4:]] if "--run" in options else common
    subprocess.run([sys.executable, "-m", "plop_cli", *first], check=True, capture_output=True)
    if "--run" in options:  # a run from before: the anatomy is stored at its next use
        subprocess.run([sys.executable, "-m", "plop_cli", *common], check=True, capture_output=True)
    told = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    assert told == "0 []\n"
