"""A PEFT adapter is merged onto its base and scored as a revision of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import brute_force
from plop_cli import PlopError, score
from plop_cli.cli.app import app
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from small_models import byte_tokenizer

TEXTS = ["Half of 12 is 6, and half of 6 is 3.", "Why?", "A train leaves at noon."]

peft = pytest.importorskip("peft", reason="pip install 'plop-cli[peft]' is missing")


@pytest.fixture(scope="module")
def base(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(saved, tmp_path_factory.mktemp("adapters") / "tiny"))


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


# Adapters over adapters, and where else adapters lie


def weights(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    return load(identify(str(folder), Loading(**options)), Loading(dtype="float32", device="cpu"))[0].state_dict()


def change(base: Path, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    """What an adapter adds to its base's weights."""
    plain = weights(base)
    return {name: weight - plain[name] for name, weight in weights(folder, **options).items()}


def named(adapter: Path, folder: Path, base: object) -> Path:
    """A copy of the adapter that names another base."""
    copy = Path(shutil.copytree(adapter, folder))
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    return copy


def test_an_adapter_over_an_adapter_is_merged_after_it(base: Path, adapter: Path, tmp_path: Path) -> None:
    second = trained(base, tmp_path / "second", seed=1)
    over = named(second, tmp_path / "over", adapter)
    first, alone = change(base, adapter), change(base, second)
    for both in (change(base, over), change(base, adapter, adapter=str(second))):
        for name, delta in both.items():
            assert torch.allclose(delta, first[name] + alone[name], atol=1e-5), name
    source, asked = identify(str(over)), identify(str(adapter), Loading(adapter=str(second)))
    assert source.adapters == (adapter, over)
    assert asked.label == "checkpoint-200+second"
    assert len({source.revision, identify(str(adapter)).revision, identify(str(second)).revision}) == 3
    assert source.adapter_hash not in (identify(str(adapter)).adapter_hash, identify(str(second)).adapter_hash)


def test_an_adapter_whose_base_is_itself_or_leads_back_to_it(adapter: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    named(adapter, one, other)
    named(adapter, other, one)
    itself = named(adapter, tmp_path / "itself", tmp_path / "itself")
    for folder in (one, other, itself):
        assert "which is an adapter on top of it; give BASE --adapter" in refusal(folder)


@pytest.mark.parametrize("base_name", [7, None, [], {"a": 1}, "two words", ""])
def test_a_base_that_is_no_name(adapter: Path, tmp_path: Path, base_name: Any) -> None:
    copy = named(adapter, tmp_path / "copy", "x")
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base_name}))
    assert f"give BASE --adapter {copy}" in refusal(copy)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("adapter_config.json", "[" * 100_000, "nested too deeply"),
        ("adapter_config.json", "[]", "is no JSON object"),
        ("adapter_config.json", "{}", "names no base model"),
        ("adapter_model.safetensors", "short", "is no whole safetensors file"),
    ],
)
def test_damaged_files_of_an_adapter(adapter: Path, tmp_path: Path, file: str, content: str, said: str) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    (copy / file).write_text(content)
    assert said in refusal(copy)


@pytest.mark.parametrize("changes", [{"r": 10**8}, {"layer_replication": [[0, 10**9]]}, {"rank_pattern": {"q": 10**8}}])
def test_what_an_adapter_asks_for_is_bounded(adapter: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | changes))
    if "rank_pattern" in changes:  # of no module
        load(identify(str(copy)), Loading(dtype="float32", device="cpu"))
    else:
        refusal(copy)


def test_an_adapter_folder_that_also_holds_a_configuration_is_an_adapter(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    shutil.copy(base / "config.json", copy)
    assert identify(str(copy)).adapters == (copy,)
    expected = weights(adapter)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(copy).items())


def test_an_adapter_beside_a_models_own_weights_is_merged_into_them(base: Path, adapter: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(base, tmp_path / "both"))
    for file in adapter.glob("adapter_*"):
        shutil.copy(file, both)
    expected = weights(adapter)
    found = weights(both)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(weight, expected[name], atol=1e-6) for name, weight in found.items())
    assert identify(str(both)).revision != identify(str(base)).revision


def test_a_trainers_output_that_holds_checkpoints_alone_names_them(adapter: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for step in (100, 20):
        shutil.copytree(adapter, output / f"checkpoint-{step}")
    said = f"{output} holds no model itself, only checkpoint-20, checkpoint-100; give {output / 'checkpoint-100'}, say"
    assert refusal(output) == said


# Models in memory that carry adapters


def carried(how: str, base: Path, adapter: Path) -> Any:
    from transformers import AutoModelForCausalLM

    plain, _ = load(identify(str(base)), Loading(dtype="float32", device="cpu"))
    if how == "PeftModel":
        return peft.PeftModel.from_pretrained(plain, adapter)
    if how == "merged in place":
        model = peft.PeftModel.from_pretrained(plain, adapter)
        model.merge_adapter()
        return model
    if how == "load_adapter":
        plain.load_adapter(str(adapter))
        return plain
    return AutoModelForCausalLM.from_pretrained(adapter, trust_remote_code=False)


def by_module(scores: Any) -> dict[str, float]:
    return {module.name: module.nfn for module in scores.modules}


@pytest.mark.parametrize("how", ["PeftModel", "merged in place", "load_adapter", "from_pretrained"])
def test_a_model_that_carries_an_adapter_is_scored_as_what_it_computes(how: str, base: Path, adapter: Path) -> None:
    """Under the names of its base, and against Definition 1 read on the merged model."""
    merged, tokenizer = load(identify(str(adapter)), Loading(dtype="float32", device="cpu"))
    expected = by_module(score(merged, tokenizer, TEXTS))
    model = carried(how, base, adapter)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = by_module(score(model, tokenizer, TEXTS))
    assert found == pytest.approx(expected, rel=1e-4)
    truth = brute_force.brute_force(merged, tokenizer, TEXTS, list(found))
    assert list(found.values()) == pytest.approx([nfn for nfn, _ in truth], rel=0.015)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.mark.parametrize("how", ["PeftModel", "merged in place"])
def test_adapters_that_are_switched_off_do_not_count(how: str, base: Path, adapter: Path) -> None:
    plain, tokenizer = load(identify(str(base)), Loading(dtype="float32", device="cpu"))
    model = carried(how, base, adapter)
    with model.disable_adapter():
        found = by_module(score(model, tokenizer, TEXTS))
    assert found == pytest.approx(by_module(score(plain, tokenizer, TEXTS)), rel=1e-4)


def test_prompts_that_were_learned_are_refused(base: Path) -> None:
    plain, tokenizer = load(identify(str(base)), Loading(dtype="float32", device="cpu"))
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with pytest.raises(PlopError, match=r"PROMPT_TUNING puts .* score model.get_base_model\(\)"):
        score(peft.get_peft_model(plain, config), tokenizer, TEXTS)
