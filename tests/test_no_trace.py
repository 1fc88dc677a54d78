"""The library leaves its caller's process as it found it, whether a call ends well or not."""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainingArguments
from typer.testing import CliRunner

import plop_cli
from fake_hub import COMMIT, hub
from fingerprint import fingerprint, no_trace
from plop_cli import (
    PlopCallback,
    PlopError,
    check,
    compare_runs,
    list_runs,
    race,
    recommend,
    recommend_runs,
    score,
    score_model,
    second_opinions,
    write_report,
)
from plop_cli.cli.app import app
from plop_cli.comparison.compare import compare
from plop_cli.models.loading import load, skeleton
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.network.anatomy import anatomy
from plop_cli.racing.identity import Setting
from plop_cli.report.page import pictures, render_html, render_markdown
from plop_cli.report.story import tell
from plop_cli.runs.exchange import read_runs, write_runs
from plop_cli.runs.grid import score_grid
from plop_cli.runs.jobs import Request
from plop_cli.runs.selection import find_runs
from plop_cli.texts.tasks import Task, load_task
from plop_registry import Registry, RegistryError
from report_runs import store
from small_models import byte_tokenizer, qwen2

TEXTS = [f"text number {number}" for number in range(8)]
FLOAT32 = Loading(dtype="float32", device="cpu")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
DEAD = "http://127.0.0.1:9"
"""Where no hub answers."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models in folders: `tiny`; `headless`, whose head is drawn anew; `strange`, of no known architecture; `cut`."""
    folder = tmp_path_factory.mktemp("models")
    qwen2().save_pretrained(folder / "tiny")
    byte_tokenizer().save_pretrained(folder / "tiny")
    for name in ("headless", "strange", "cut"):
        shutil.copytree(folder / "tiny", folder / name)
    weights = load_file(folder / "tiny" / "model.safetensors")
    headless = {name: weight for name, weight in weights.items() if name != "lm_head.weight"}
    save_file(headless, folder / "headless" / "model.safetensors", metadata={"format": "pt"})
    lacking = {name: weight for name, weight in weights.items() if "up_proj" not in name}
    save_file(lacking, folder / "cut" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "tiny" / "config.json").read_text())
    (folder / "strange" / "config.json").write_text(json.dumps(config | {"model_type": "?", "architectures": ["?"]}))
    recommend(score(qwen2(), byte_tokenizer(), TEXTS), rank=2).apply(qwen2()).save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def at(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What calls are made with. The hub does not answer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    point(monkeypatch, DEAD)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.db").write_bytes(b"x" * 4096)
    for name in ("taken.jsonl", "taken.md"):
        (tmp_path / name).touch()
    model, tokenizer = qwen2(), byte_tokenizer()
    with Registry(tmp_path / "registry.db") as registry:
        runs = [store(registry, task=task) for task in ("math", "code")]
        yield SimpleNamespace(
            folder=tmp_path,
            models=made,
            model=model,
            tokenizer=tokenizer,
            texts=str(tmp_path / "texts.jsonl"),
            scores=score(model, tokenizer, TEXTS),
            registry=registry,
            runs=runs,
            story=tell(runs, registry),
        )


def point(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """What HF_ENDPOINT does when huggingface_hub is imported."""
    patch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    files = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)


def restless(error: type[BaseException] | None = None) -> Any:
    """Draws from every generator of the process whenever it runs, and then fails with `error`."""
    model = qwen2()

    def draw(*_: Any) -> None:
        random.random(), np.random.random(), torch.rand(1)
        if error:
            raise error

    model.model.layers[1].register_forward_hook(draw)
    return model


def loaded(at: SimpleNamespace, name: str, **options: Any) -> Any:
    loading = replace(FLOAT32, **options)
    return load(identify(str(at.models / name), loading), loading)


def grid(at: SimpleNamespace, *models: str, tasks: tuple[str, ...] = (), **options: Any) -> list[Any]:
    wanted = Request(samples=8, max_length=64, **options)
    return list(score_grid(models or [str(at.models / "tiny")], tasks or [at.texts], wanted, at.registry))


def train(at: SimpleNamespace, **options: Any) -> None:
    """A Trainer may do what it wants; the callback's own part is watched."""

    class Watched(PlopCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            with no_trace():
                super().on_train_begin(*args, **kwargs)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            with no_trace():
                super().on_step_end(*args, **kwargs)

    ids = at.tokenizer(TEXTS)["input_ids"]
    arguments = TrainingArguments(
        output_dir=at.folder / "run",
        max_steps=2,
        per_device_train_batch_size=1,
        save_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    callback = Watched(Task("mine", "1", tuple(TEXTS)), every=1, registry=at.registry)
    rows = [{"input_ids": tokens, "labels": tokens} for tokens in ids]
    with torch.enable_grad():
        Trainer(restless(), arguments, train_dataset=rows, callbacks=[callback], **options).train()


CALLS: dict[str, Callable[[SimpleNamespace], object]] = {
    "score": lambda at: score(restless(), at.tokenizer, TEXTS),
    "recommend": lambda at: recommend(at.scores, rank=4),
    "recommend for a model": lambda at: recommend(at.scores, rank=4, model=at.model),
    "Placement.lora_config": lambda at: recommend(at.scores, rank=4).lora_config(),
    "PlopCallback": lambda at: PlopCallback(at.texts, every=1, registry=at.registry),
    "anatomy": lambda at: anatomy(at.model),
    "load_task of a sample": lambda at: load_task("sample/math"),
    "load_task of a file": lambda at: load_task(at.texts),
    "identify": lambda at: identify(str(at.models / "tiny")),
    "skeleton": lambda at: skeleton(identify(str(at.models / "tiny"))),
    "load": lambda at: loaded(at, "tiny"),
    "load in bfloat16": lambda at: loaded(at, "tiny", dtype="bfloat16"),
    "load without head": lambda at: loaded(at, "headless"),
    "load with an adapter": lambda at: loaded(at, "tiny", adapter=str(at.models / "adapter")),
    "load to a disk": lambda at: loaded(at, "tiny", offload="disk", max_memory="600KB"),
    "score_grid": grid,
    "score_grid until it is sure": lambda at: grid(at, until=0.9),
    "score_model": lambda at: score_model(str(at.models / "tiny"), at.texts, registry=at.folder / "new.db", samples=8),
    "race": lambda at: race(
        at.model,
        at.tokenizer,
        TEXTS,
        {kind: recommend(at.scores, targets=[kind], rank=1) for kind in ("q_proj", "v_proj")},
        setting=Setting(steps=1, batch=2),
        rates="1e-3",
        seeds=1,
        registry=at.registry,
    ),
    "check": lambda at: check({"r": 2, "target_modules": ["q_proj"]}, at.model),
    "check of a folder": lambda at: check({"r": 2, "target_modules": "all-linear"}, at.models / "tiny"),
    "recommend_runs": lambda at: recommend_runs(at.runs[0].id, registry=at.registry),
    "second_opinions": lambda at: second_opinions(str(at.models / "tiny"), registry=at.registry),
    "list_runs": lambda at: list_runs(registry=at.registry),
    "compare_runs": lambda at: compare_runs(*(run.id for run in at.runs), registry=at.registry),
    "write_report": lambda at: write_report(at.folder / "report.html", registry=at.registry),
    "compare": lambda at: compare([(run, at.registry.matrix(run.id)) for run in at.runs], by="task"),
    "tell": lambda at: tell(at.runs, at.registry),
    "render_html": lambda at: render_html(at.story, written=NOW, command="plop report"),
    "render_markdown": lambda at: render_markdown(at.story, written=NOW, command="plop report"),
    "pictures": lambda at: next(pictures(at.story, "png")),
    "find_runs": lambda at: find_runs(at.registry, {"task": "math"}),
    "write_runs": lambda at: [write_runs(at.registry, at.folder / f"runs.{kind}", {}) for kind in ("jsonl", "csv")],
    "read_runs": lambda at: [
        write_runs(at.registry, at.folder / "runs.jsonl", {}),
        read_runs(Registry(at.folder / "other.db"), at.folder / "runs.jsonl"),
    ],
    "Registry": lambda at: [
        Registry(at.folder / "new.db").upgrade(),
        at.registry.runs(),
        at.registry.get(at.runs[0].id),
        at.registry.check(),
        at.registry.status(),
        at.registry.backup(at.folder / "backup.db"),
        at.registry.remove([at.runs[0].id]),
    ],
}

FAILURES: dict[str, tuple[type[BaseException], Callable[[SimpleNamespace], object]]] = {
    "score of no text": (PlopError, lambda at: score(at.model, at.tokenizer, [])),
    "score that is interrupted": (
        KeyboardInterrupt,
        lambda at: score(restless(KeyboardInterrupt), at.tokenizer, TEXTS),
    ),
    "score of a model that fails": (PlopError, lambda at: score(restless(ZeroDivisionError), at.tokenizer, TEXTS)),
    "race of too few": (
        PlopError,
        lambda at: race(at.model, at.tokenizer, TEXTS[:2], {"one": recommend(at.scores, rank=1)}),
    ),
    "recommend of no such type": (PlopError, lambda at: recommend(at.scores, targets=["nonesuch"])),
    "Placement.apply to another model": (
        PlopError,
        lambda at: recommend(at.scores, rank=4).apply(torch.nn.Sequential()),
    ),
    "PlopCallback on no such task": (PlopError, lambda at: PlopCallback("nonesuch", every=1)),
    "PlopCallback without tokenizer": (PlopError, train),
    "load_task of no such file": (PlopError, lambda at: load_task("nowhere.jsonl")),
    "load_task of a broken file": (PlopError, lambda at: load_task(str(at.folder / "broken.json"))),
    "load_task without a hub": (PlopError, lambda at: load_task("org/data")),
    "identify nothing": (PlopError, lambda at: identify("./nowhere")),
    "identify without a hub": (PlopError, lambda at: identify("org/name")),
    "load what is unknown": (PlopError, lambda at: loaded(at, "strange")),
    "load what is not whole": (PlopError, lambda at: loaded(at, "cut")),
    "skeleton of what is unknown": (PlopError, lambda at: skeleton(identify(str(at.models / "strange")))),
    "score_model of nothing": (PlopError, lambda at: score_model("./nowhere", at.texts, registry=at.registry)),
    "check of no config": (PlopError, lambda at: check(at.folder / "broken.json", at.model)),
    "recommend_runs of none": (RegistryError, lambda at: recommend_runs("nonesuch", registry=at.registry)),
    "second_opinions of nothing": (PlopError, lambda at: second_opinions("./nowhere", registry=at.registry)),
    "compare_runs of none": (RegistryError, lambda at: compare_runs("nonesuch", "nonesuch", registry=at.registry)),
    "write_report over a file": (PlopError, lambda at: write_report(at.folder / "taken.md", registry=at.registry)),
    "find_runs that are not there": (PlopError, lambda at: find_runs(at.registry, {"task": "nonesuch"})),
    "write_runs over a file": (PlopError, lambda at: write_runs(at.registry, at.folder / "taken.jsonl", {})),
    "read_runs of something else": (RegistryError, lambda at: read_runs(at.registry, at.folder / "broken.json")),
    "Registry that is none": (RegistryError, lambda at: Registry(at.folder / "broken.db").runs()),
}


def as_imported() -> None:
    """The caller has set nothing."""


def set_otherwise() -> None:
    """The caller has set what plop needs otherwise."""
    transformers.logging.set_verbosity_info()
    transformers.logging.disable_progress_bar()
    huggingface_hub.utils.enable_progress_bars("mine")
    datasets.logging.set_verbosity_debug()
    datasets.enable_progress_bars()
    warnings.filterwarnings("always", message="a filter of the caller's")
    torch.set_grad_enabled(False)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)


@pytest.fixture(params=[as_imported, set_otherwise])
def caller(request: pytest.FixtureRequest) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import progress_bar_states

    before = fingerprint()
    of_hub = dict(progress_bar_states)
    with warnings.catch_warnings(), torch.set_grad_enabled(True), torch.random.fork_rng(devices=[]):
        request.param()
        yield
    for library in (transformers, datasets):
        library.logging.set_verbosity(before[library.__name__][0])
    transformers.logging.enable_progress_bar()
    progress_bar_states.clear()
    progress_bar_states.update(of_hub)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_changes_nothing_in_the_process(call: str, at: SimpleNamespace, caller: None) -> None:
    with no_trace():
        CALLS[call](at)


@pytest.mark.parametrize("call", FAILURES)
def test_a_call_that_fails_changes_nothing_either(call: str, at: SimpleNamespace, caller: None) -> None:
    error, make = FAILURES[call]
    with no_trace() if make is not train else nullcontext(), pytest.raises(error):
        make(at)


@pytest.mark.slow
def test_loading_the_demo_changes_nothing_in_the_process(at: SimpleNamespace) -> None:
    with no_trace():
        load(identify("demo"), FLOAT32)


def test_every_public_name_is_among_these() -> None:
    watched = {call.split()[0].split(".")[0] for call in (*CALLS, *FAILURES)}
    assert set(plop_cli.__all__) - {"NFNScores", "PlopError", "__version__"} <= watched


def test_a_training_is_left_alone_between_its_steps(at: SimpleNamespace) -> None:
    train(at, processing_class=at.tokenizer)
    assert len(find_runs(at.registry, {"task": "mine"})) == 3


def test_adapters_are_drawn_by_the_callers_seed_and_nothing_else_is_changed(at: SimpleNamespace) -> None:
    with no_trace(but=("random torch",)):
        recommend(at.scores, rank=4).apply(at.model)


@pytest.mark.parametrize("padded", [False, True])
def test_a_tokenizer_cuts_and_pads_as_before(padded: bool, at: SimpleNamespace) -> None:
    """Else the next save_pretrained would write plop's max_length into tokenizer.json."""
    backend = at.tokenizer.backend_tokenizer
    if padded:
        backend.enable_truncation(7, strategy="only_first")
        backend.enable_padding(length=9, pad_id=256, pad_token="<pad>")
    before = backend.to_str()
    score(at.model, at.tokenizer, TEXTS, max_length=5)
    with pytest.raises(PlopError):
        score(at.model, at.tokenizer, [*TEXTS, [{"role": "user", "content": "no template"}]])
    assert backend.to_str() == before


def test_malloc_is_set_by_commands_alone(at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be read back, so it could not be put back."""
    asked = []

    class Watched(ctypes.CDLL):
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return super().__getattr__(name)

    monkeypatch.setattr(ctypes, "CDLL", Watched)
    assert [cell.error for cell in grid(at)] == [None]
    assert "mallopt" not in asked
    command = ["score", str(at.models / "tiny"), "--task", at.texts, "--registry", str(at.folder / "registry.db")]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert "mallopt" in asked


def test_in_a_training_of_several_processes_each_scores_for_itself(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process group and the handler of SIGTERM are the training's own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with no_trace():
        (cell,) = grid(at)
    assert cell.error is None
    assert at.registry.get(cell.run.id).id == cell.run.id


@contextmanager
def online(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with hub(folder) as endpoint, monkeypatch.context() as patch:
        point(patch, endpoint)
        yield


def test_after_a_call_without_an_answer_the_hub_is_there_for_the_next(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in (lambda: load_task("org/data"), lambda: identify("org/tiny"), lambda: grid(at, "org/tiny")):
        with no_trace(), suppress(PlopError):
            call()
        with online(at.models / "tiny", monkeypatch):
            assert huggingface_hub.HfApi().model_info("org/tiny").sha == COMMIT
            assert identify("org/tiny").revision == COMMIT


def test_what_is_cached_is_loaded_without_the_hub_and_without_a_trace(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with online(at.models / "tiny", monkeypatch), no_trace():
        source = identify("org/tiny")
        model, _ = load(source, FLOAT32)
    with no_trace():
        cached = identify("org/tiny")
        again, _ = load(cached, FLOAT32)
    assert (source.offline, cached.offline) == (False, True)
    assert cached.revision == source.revision == COMMIT
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_a_cached_data_set_is_read_without_the_hub_and_without_a_trace(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put where `datasets` keeps what it once had from the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", at.folder / "cached")
    rows = datasets.load_dataset("json", data_files=at.texts, split="train", cache_dir=str(at.folder / "made"))
    file = Path(rows.cache_files[0]["filename"])
    place = at.folder / "cached" / "org___data" / "default" / "0.0.0" / COMMIT
    shutil.copytree(file.parent, place)
    (place / file.name).rename(place / "data-train.arrow")
    with no_trace():
        task = load_task("org/data")
    assert (sorted(task.texts), task.revision) == (TEXTS, COMMIT)


@contextmanager
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """A hub that hangs up on everyone; yields its callers so far."""
    callers: list[object] = []

    def hang_up() -> None:
        while True:
            try:
                connection, caller = server.accept()
            except OSError:
                return
            callers.append(caller)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server, monkeypatch.context() as patch:
        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        point(patch, f"http://127.0.0.1:{server.getsockname()[1]}")
        yield callers
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_grid_waits_for_the_hub_once_and_the_next_grid_asks_again(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mute(monkeypatch) as callers:
        with pytest.raises(PlopError):
            load_task("org/data")
        once = len(callers)
        assert once
        cells = grid(at, "org/one", "org/two", tasks=("org/data", "org/other"))
        assert len(callers) == 2 * once
        assert all("the hub cannot be reached" in cell.error for cell in cells)
        grid(at, "org/one")
        assert len(callers) == 3 * once


def test_a_command_waits_for_the_hub_once(at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with online(at.models / "tiny", monkeypatch):
        load(identify("org/tiny"), FLOAT32)
    with mute(monkeypatch) as callers:
        with pytest.raises(PlopError):
            identify("org/other")
        once = len(callers)
        command = ["recommend", "org/tiny", "--task", at.texts, "-n", "8", "--registry", str(at.folder / "registry.db")]
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
        assert len(callers) == 2 * once
