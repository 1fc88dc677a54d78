"""PlopCallback scores during training, and training does not notice."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback

from plop_cli import PlopCallback, PlopError, score
from plop_cli.network.adapters import merged
from plop_cli.runs.selection import to_compare
from plop_cli.texts.tasks import Task
from plop_registry import Registry, RegistryError
from real_model import sample_texts
from small_models import byte_tokenizer

TEXTS = [text[:100] for text in sample_texts("math", 8)]
TASK = Task("mine", "1", tuple(TEXTS))
STEPS = 6


def llama() -> Any:
    """Dropout in attention; two layers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        attention_dropout=0.2,
    )
    return LlamaForCausalLM(config)


def noisy() -> Any:
    """Draws from every global generator whenever it runs, in evaluation too."""

    def draw(*args: Any) -> None:
        random.random(), np.random.random(), torch.rand(1)

    model = llama()
    model.model.embed_tokens.register_forward_hook(draw)
    return model


def adapted() -> Any:
    """DoRA with dropout and rank-stabilised scaling, and modules that are trained whole."""
    config = LoraConfig(
        r=4,
        lora_dropout=0.2,
        use_dora=True,
        use_rslora=True,
        target_modules=["q_proj", "down_proj"],
        modules_to_save=["o_proj"],
        init_lora_weights=False,
    )
    return get_peft_model(llama(), config)


def trainer(model: Any, folder: Path, *callbacks: TrainerCallback, report_to: Sequence[str] = ()) -> Trainer:
    """A real Trainer of six steps of two texts on the CPU."""
    tokenizer = byte_tokenizer()
    rows = [{"input_ids": ids, "labels": ids} for ids in tokenizer(TEXTS, truncation=True, max_length=48)["input_ids"]]
    arguments = TrainingArguments(
        output_dir=folder / "run",
        max_steps=STEPS,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        learning_rate=0.01,
        logging_steps=2,
        save_strategy="no",
        use_cpu=True,
        report_to=[*report_to],
        project=folder.name,
        run_name="first",
        disable_tqdm=True,
    )
    return Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer, callbacks=list(callbacks))


def train(model: Any, folder: Path, *callbacks: TrainerCallback) -> Trainer:
    """The trainer, after its training."""
    made = trainer(model, folder, *callbacks)
    made.train()
    return made


@pytest.mark.parametrize("make", [llama, noisy, adapted])
def test_training_with_it_gives_the_same_weights_to_the_bit(make: Callable[[], Any], tmp_path: Path) -> None:
    """Dropout on."""
    plain, drawn = train(make(), tmp_path), (random.random(), float(np.random.random()))
    scored = train(make(), tmp_path, PlopCallback(TASK, every=1, registry=tmp_path / "registry.db"))
    assert (random.random(), float(np.random.random())) == drawn
    start, before, after = make().state_dict(), plain.model.state_dict(), scored.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(start[name], after[name]) for name in start)
    losses = [[row["loss"] for row in each.state.log_history if "loss" in row] for each in (plain, scored)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == STEPS / 2


@pytest.mark.parametrize("make", [llama, adapted])
def test_a_score_leaves_modes_gradients_hooks_and_flags_as_they_were(make: Callable[[], Any], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Look(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                for each in model.modules():  # a state that no `model.train()` would bring back
                    each.training = not each.training
                seen.append(look(model))
                callback.on_step_end(args, state, control, model=model, **kwargs)
                seen.append(look(model))
                model.train()

    def look(model: Any) -> dict[str, Any]:
        return {
            "modules": [(name, id(each), each.training) for name, each in model.named_modules()],
            "hooks": [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules()],
            "grads": [None if p.grad is None else p.grad.clone().tolist() for p in model.parameters()],
            "flags": [p.requires_grad for p in model.parameters()],
            "cache": model.config.use_cache,
            "enabled": torch.is_grad_enabled(),
            "merged": [getattr(each, "merged_adapters", None) for each in model.modules()],
        }

    callback = PlopCallback(TASK, every=1, registry=tmp_path / "registry.db")
    train(make(), tmp_path, callback, Look())
    assert seen[0] == seen[1]
    assert any(grad is not None for grad in seen[0]["grads"])


def test_runs_are_stored_by_step_and_compare_orders_them(tmp_path: Path) -> None:
    url = str(tmp_path / "registry.db")
    model = train(llama(), tmp_path, PlopCallback(TASK, every=4, registry=url)).model
    with Registry(url) as registry:
        runs = registry.runs()[::-1]
        assert [(run.model_id, run.model_label) for run in runs] == [("run", f"checkpoint-{n}") for n in (0, 4, 6)]
        assert len({run.model_revision for run in runs} | {run.key for run in runs}) == 6
        assert runs[-1].types == score(model, byte_tokenizer(), TEXTS).types
        compared, _ = to_compare(registry, [], "revision", {"model": "run"})
        assert [run.id for run, _ in compared] == [run.id for run in runs]


def test_an_adapted_model_is_scored_as_what_it_computes(tmp_path: Path) -> None:
    """As PEFT's own merge_and_unload leaves it, under the names of the base model."""
    model = adapted()
    with merged(model) as plain:
        found = score(plain, byte_tokenizer(), TEXTS)
    base, whole = (score(each, byte_tokenizer(), TEXTS) for each in (llama(), model.merge_and_unload()))
    assert [module.name for module in found.modules] == [module.name for module in base.modules]
    assert found.modules == whole.modules
    assert found.types != base.types


def test_adapters_are_back_after_an_error() -> None:
    model = adapted()
    before = [(name, id(module)) for name, module in model.named_modules()]
    with pytest.raises(ZeroDivisionError), merged(model):
        raise ZeroDivisionError
    assert [(name, id(module)) for name, module in model.named_modules()] == before
    assert isinstance(model, PeftModel)


def test_the_same_weights_have_the_same_revision_and_others_another(tmp_path: Path) -> None:
    """Frozen weights are hashed once, and count all the same."""

    def revisions(model: Any) -> list[str]:
        url = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        train(model, tmp_path, PlopCallback(TASK, every=STEPS, registry=url))
        with Registry(url) as registry:
            return [run.model_revision for run in registry.runs()[::-1]]

    other = adapted()
    other.base_model.model.model.embed_tokens.weight.data[0] += 1
    first, again, changed = revisions(adapted()), revisions(adapted()), revisions(other)
    assert first == again
    assert first[0] != first[1]
    assert not {*first} & {*changed}


def test_metrics_go_into_the_trainers_history(tmp_path: Path) -> None:
    history = train(llama(), tmp_path, PlopCallback(TASK, every=2, registry=tmp_path / "registry.db")).state.log_history
    rows = [row for row in history if "plop/seconds/mine" in row]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert "plop/nfn/mine/q_proj" in rows[0]
    assert all(0 < row["plop/share/mine"] <= 1 for row in rows)


def test_with_log_they_go_to_what_the_trainer_reports_to_and_the_loss_is_still_logged(tmp_path: Path) -> None:
    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            told.append(set(logs))

    told: list[set[str]] = []
    made = trainer(llama(), tmp_path, Reporter())
    made.add_callback(PlopCallback(TASK, every=2, registry=tmp_path / "registry.db", log=made.log))
    made.train()
    assert sum("plop/nfn/mine/q_proj" in names for names in told) == 4
    assert sum("loss" in names for names in told) == 3


def _tensorboard(folder: Path) -> list[tuple[int, str, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    return [(each.step, tag, each.value) for tag in events.Tags()["scalars"] for each in events.Scalars(tag)]


def _trackio(folder: Path) -> list[tuple[int, str, float]]:
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs(folder.name, "first")
    return [(row["train/global_step"], tag, value) for row in rows for tag, value in row.items()]


@pytest.fixture(scope="module")
def trackio_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """trackio reads its folder once, when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        yield


@pytest.mark.parametrize(("reporter", "read"), [("tensorboard", _tensorboard), ("trackio", _trackio)])
def test_a_real_reporter_gets_each_score_once_at_its_step_and_each_loss(
    reporter: str,
    read: Callable[[Path], list[tuple[int, str, float]]],
    tmp_path: Path,
    trackio_home: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec(reporter) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"pip install {reporter} is missing")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    made = trainer(llama(), tmp_path, report_to=[reporter])
    made.add_callback(PlopCallback(TASK, every=2, registry=tmp_path / "registry.db", log=made.log))
    made.train()
    with Registry(tmp_path / "registry.db") as registry:
        (stored, *_) = registry.runs()
    found = read(tmp_path)
    for each in stored.types:
        told = [(step, value) for step, tag, value in found if tag == f"train/plop/nfn/mine/{each.type}"]
        assert sorted(step for step, _ in told) == [0, 2, 4, 6]
        assert dict(told)[6] == pytest.approx(each.nfn, rel=1e-6)
    assert sorted(step for step, tag, _ in found if tag == "train/loss") == [2, 4, 6]


def test_a_reporter_that_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard")
    made = trainer(llama(), tmp_path, report_to=["tensorboard"])
    made.remove_callback(TensorBoardCallback)  # it would write beside the tests
    made.add_callback(PlopCallback(TASK, every=STEPS, registry=tmp_path / "registry.db"))
    made.train()
    assert "for tensorboard too, give PlopCallback(…, log=trainer.log)" in caplog.text


def test_what_cannot_work_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(PlopError, match="every is 0"):
        PlopCallback(TASK, every=0)
    with pytest.raises(PlopError, match="no task"):
        PlopCallback("nonesuch", every=1)
    (tmp_path / "file").write_text("no registry")
    first = SimpleNamespace(is_world_process_zero=True)
    for arguments, reason in [({"fsdp": "full_shard"}, "needs whole weights"), ({"fsdp": ""}, "has no tokenizer")]:
        with pytest.raises(PlopError, match=reason):
            PlopCallback(TASK, every=1).on_train_begin(SimpleNamespace(deepspeed=None, **arguments), first, None)
    with pytest.raises(RegistryError):
        train(llama(), tmp_path, PlopCallback(TASK, every=1, registry=tmp_path / "file"))


def test_a_later_failure_does_not_end_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Break(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                for weight in model.parameters():
                    weight.data.fill_(torch.nan)

    url = tmp_path / "registry.db"
    train(llama(), tmp_path, PlopCallback(TASK, every=2, registry=url), Break())
    assert "step 4 has no score on mine" in caplog.text
    with Registry(url) as registry:
        assert len(registry.runs()) == 2


def test_nor_does_a_score_that_does_not_fit_beside_the_optimizer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    class Fill(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            monkeypatch.setattr("plop_cli.runs.callback.score", full)

    train(llama(), tmp_path, PlopCallback(TASK, every=2, registry=tmp_path / "registry.db"), Fill())
    assert "step 2 has no score on mine: CUDA out of memory" in caplog.text
