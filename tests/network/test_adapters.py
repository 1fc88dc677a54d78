"""A PEFT adapter is merged onto its base and scored as a revision of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from plop_cli import PlopError
from plop_cli.cli.app import app
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from small_models import byte_tokenizer, qwen2

peft = pytest.importorskip("peft", reason="pip install 'plop-cli[peft]' is missing")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "tiny"
    qwen2().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def trained(base: Path, folder: Path, seed: int = 0) -> Path:
    """A LoRA adapter of `base` whose B is not zero."""
    model, _ = load(identify(str(base)), Loading(dtype="float32", device="cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return trained(base, base.parent / "run" / "checkpoint-200")


def test_the_weights_are_those_of_base_and_adapter_together(base: Path, adapter: Path) -> None:
    plain, _ = load(identify(str(base)), Loading(dtype="float32", device="cpu"))
    merged, tokenizer = load(identify(str(adapter)), Loading(dtype="float32", device="cpu"))
    again, _ = load(identify(str(base), Loading(adapter=str(adapter))), Loading(dtype="float32", device="cpu"))
    with_adapter = peft.PeftModel.from_pretrained(plain, adapter).eval()
    ids = torch.tensor([tokenizer("one two three")["input_ids"]])
    with torch.no_grad():
        expected = with_adapter(ids).logits
        assert type(merged) is type(with_adapter.get_base_model())
        assert torch.allclose(merged(ids).logits, expected, atol=1e-4)
        assert torch.equal(again(ids).logits, merged(ids).logits)
        with with_adapter.disable_adapter():
            assert not torch.allclose(with_adapter(ids).logits, expected, atol=1e-2)


def test_it_is_a_revision_of_its_own(base: Path, adapter: Path, tmp_path: Path) -> None:
    plain, source = identify(str(base)), identify(str(adapter))
    assert (source.id, source.label) == ("run", "checkpoint-200"), "beside the other checkpoints of the run"
    assert source.revision != plain.revision
    assert identify(str(base), Loading(adapter=str(adapter))) == source
    copy = shutil.copytree(adapter, tmp_path / "final")
    named = identify(str(copy))
    assert (named.id, named.label) == ("tiny", "final"), "a revision of its base"
    assert (named.revision, named.adapter_hash) == (source.revision, source.adapter_hash), "not by where it lies"
    other = identify(str(trained(base, tmp_path / "other", seed=1)))
    assert other.revision != source.revision


def test_its_run_stands_beside_that_of_the_base(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))

    def run(*arguments: object) -> Any:
        command = ["score", *map(str, arguments), "--task", "sample/math", "-n", "2", "--json"]
        return json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)

    plain, adapted = run(base), run(adapter)
    assert plain["settings"]["adapter"] is None
    assert adapted["settings"]["adapter"] == identify(str(adapter)).adapter_hash
    assert adapted["model"]["label"] == "checkpoint-200"
    assert adapted["model"]["architecture"] == plain["model"]["architecture"]
    assert "peft" in adapted["versions"]
    changed = {a["type"] for a, b in zip(adapted["modules"], plain["modules"], strict=True) if a["nfn"] != b["nfn"]}
    assert {"q_proj", "down_proj"} <= changed
    assert run(base, "--adapter", adapter) == adapted | {"cached": True}


def test_an_adapter_goes_onto_quantized_weights_too(base: Path, adapter: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'plop-cli[quant]' is missing")
    source = identify(str(adapter), Loading(load_in="8bit"))
    model, _ = load(source, Loading(dtype="float32", device="cpu"))
    assert {type(m).__name__ for m in model.modules() if "8bit" in type(m).__name__} == {"Linear8bitLt"}
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_its_own_tokenizer_goes_before_that_of_the_base(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adapter, tmp_path / "final")
    byte_tokenizer(chat_template="{{ messages[0].content }}").save_pretrained(copy)
    _, tokenizer = load(identify(str(copy)), Loading(dtype="float32", device="cpu"))
    assert tokenizer.chat_template == "{{ messages[0].content }}"


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(PlopError) as caught:
        load(identify(str(folder), Loading(**options)), Loading(dtype="float32", device="cpu"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    assert "has no adapter_config.json" in refusal(base, adapter=str(tmp_path))
    empty = shutil.copytree(adapter, tmp_path / "empty")
    (empty / "adapter_model.safetensors").unlink()
    assert "holds no adapter_model.safetensors" in refusal(empty)


def test_a_base_that_is_gone(adapter: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adapter, tmp_path / "final")
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/nowhere"}))
    assert "the base model of " in refusal(copy)
    assert f"or give BASE --adapter {copy}" in refusal(copy)


def test_weights_that_find_no_place_are_an_error_and_no_silent_base(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(adapter, tmp_path / "final")
    weights = load_file(copy / "adapter_model.safetensors")
    renamed = {name.replace("layers.1.", "blocks.1."): weight for name, weight in weights.items()}
    save_file(renamed, copy / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "missing adapter keys" in refusal(copy)


def test_peft_missing_is_said_with_the_extra_that_brings_it(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plop_cli.errors.find_spec", lambda name: None)
    assert "pip install 'plop-cli[peft]'" in refusal(adapter)


def test_pickled_adapters_need_permission(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    copy = shutil.copytree(adapter, tmp_path / "final")
    torch.save(load_file(copy / "adapter_model.safetensors"), copy / "adapter_model.bin")
    (copy / "adapter_model.safetensors").unlink()
    assert "--allow-pickle" in refusal(copy)
