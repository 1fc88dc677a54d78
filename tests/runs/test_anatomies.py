"""What a model is made of is told once for each revision, and then read from the registry, without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plop_cli.cli.placements import PlacementFormat
from plop_cli.models.loading import skeleton
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.network.anatomy import anatomy
from plop_cli.runs import anatomies
from plop_cli.runs.grid import score_grid
from plop_cli.runs.jobs import Request
from plop_registry import Anatomy, Registry, RegistryError, Shape
from small_models import byte_tokenizer, qwen2

HEAVY = "{'torch', 'transformers', 'peft', 'datasets', 'pandas'}"
FORMATS = [format.value for format in PlacementFormat if format not in (PlacementFormat.table, PlacementFormat.json)]
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
        anatomies._told.clear()
        assert anatomies.anatomy_of(source, Loading(), registry) == told


RECOMMEND = {
    "a task": ["recommend", "MODEL", "--task", "sample/math"],
    "a rank matched": ["recommend", "MODEL", "--task", "TEXTS", "--match", "mlp:1"],
    "a budget": ["recommend", "MODEL", "-t", "TEXTS", "--budget", "1M", "--types", "2", "--invert", "-f", "json"],
    "several tasks": ["recommend", "MODEL", "--task", "sample/math", "--task", "TEXTS"],
    "a run": ["recommend", "MODEL", "--run", "latest"],
    "single modules": ["recommend", "MODEL", "--task", "sample/math", "--by", "module"],
} | {f"for {name}": ["recommend", "MODEL", "--task", "TEXTS", "--format", name, "--approximate"] for name in FORMATS}
SCORE = {
    f"scores of {task}, {' '.join(options)}": ["score", "MODEL", "--task", task, *options]
    for task in ("sample/math", "TEXTS", "TEXTS.csv", "TEXTS.parquet")
    for options in ([], ["--map", "--by", "layer"], ["--json"], ["--until-decided"])
}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, texts, and a registry in which both are scored: by `plop score` alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("stocked")
    qwen2().save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    texts = [f"text number {i}, of some words" for i in range(9)]
    (folder / "texts.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    (folder / "texts.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in texts))
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    tasks = ["sample/math", *(str(folder / f"texts.{kind}") for kind in ("jsonl", "csv", "parquet"))]
    with Registry(folder / "registry.db") as registry:
        assert all(cell.run for cell in score_grid([str(folder / "model")], tasks, Request(samples=8), registry))
    return folder


def imported(words: list[str], folder: Path) -> str:
    """The exit code of a command on what is stocked, and which of the heavy libraries it imported."""
    places = {"MODEL": "model", "TEXTS": "texts.jsonl", "TEXTS.csv": "texts.csv", "TEXTS.parquet": "texts.parquet"}
    words = [str(folder / places[word]) if word in places else word for word in words]
    samples = [] if "--run" in words else ["--samples", "8"]
    command = [*words, *samples, "--registry", str(folder / "registry.db")]
    probe = (
        "import sys; from typer.testing import CliRunner; from plop_cli.cli.app import app\n"
        f"found = CliRunner().invoke(app, {command!r}, catch_exceptions=False)\n"
        f"print(found.exit_code, sorted({HEAVY} & set(sys.modules)))\n"
    )
    return subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("words", [*RECOMMEND.values(), *SCORE.values()], ids=[*RECOMMEND, *SCORE])
def test_what_is_stored_is_answered_without_torch(stocked: Path, words: list[str]) -> None:
    assert imported(words, stocked) == "0 []\n"


def test_the_anatomy_of_a_run_from_before_is_stored_at_its_next_use(stocked: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stocked, tmp_path / "stocked")
    with Registry(folder / "registry.db") as registry, registry._database.writing() as writer:
        writer._connection.exec_driver_sql("DELETE FROM anatomies")
    assert imported(RECOMMEND["a run"], folder) == "0 ['torch', 'transformers']\n"
    assert imported(RECOMMEND["a run"], folder) == "0 []\n"
