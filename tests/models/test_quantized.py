"""Weights that cannot be read: the module answers for them, and the run says what they are quantized to."""

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
from plop_cli.models import quantization
from plop_cli.models import source as models
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from real_model import sample_texts
from small_models import byte_tokenizer, qwen2

TEXTS = sample_texts("math", 4)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2, which has biases on q, k and v. On some CPUs bitsandbytes takes no widths but multiples of 64."""
    folder = tmp_path_factory.mktemp("quantized") / "tiny"
    qwen2(hidden_size=128, intermediate_size=256).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def torchao(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a torchao int8 weight-only checkpoint."""
    pytest.importorskip("torchao", reason="pip install 'plop-cli[quant]' is missing")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, TorchAoConfig

    folder = tmp_path_factory.mktemp("torchao") / "tiny-int8"
    config = TorchAoConfig(Int8WeightOnlyConfig())
    AutoModelForCausalLM.from_pretrained(tiny, quantization_config=config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bnb(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bitsandbytes nf4 checkpoint."""
    pytest.importorskip("bitsandbytes", reason="pip install 'plop-cli[quant]' is missing")
    folder = tmp_path_factory.mktemp("bnb") / "tiny-nf4"
    model, tokenizer = load(identify(str(tiny), Loading(load_in="4bit")), Loading(dtype="float32", device="cpu"))
    model.save_pretrained(folder)  # before its first forward: bitsandbytes repacks weights for the CPU, and saves those
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def asked(request: pytest.FixtureRequest, tiny: Path) -> tuple[Any, ...]:
    """Arguments of `identify` for each kind of quantized weights."""
    if request.param in quantization.LOAD_IN:
        pytest.importorskip("bitsandbytes", reason="pip install 'plop-cli[quant]' is missing")
        return str(tiny), Loading(load_in=request.param)
    return (str(request.getfixturevalue(request.param)),)


# What the products are off W z by, with W as it is after quantization: bitsandbytes computes nf4 in bfloat16 on some
# CPUs, and rounds the inputs of int8 to 8 bits.
@pytest.mark.parametrize(
    ("asked", "name", "tolerance"),
    [("4bit", "nf4", 0.015), ("8bit", "int8", 0.015), ("bnb", "nf4", 0.015), ("torchao", None, 0.015)],
    indirect=["asked"],
)
def test_the_score_is_that_of_the_map_that_the_module_computes(
    asked: tuple[Any, ...], name: str | None, tolerance: float
) -> None:
    """Against Definition 1 with W read off the module column by column."""
    source = identify(*asked)
    assert source.quantization == (name or "torchao-Int8WeightOnlyConfig")
    model, tokenizer = load(source, Loading(dtype="float32", device="cpu"))
    scores = score(model, tokenizer, TEXTS)
    assert scores.settings["quantization"] == source.quantization
    names = [module.name for module in scores.modules]
    expected = dict(zip(names, brute_force.brute_force(model, tokenizer, TEXTS, names, weight=columns), strict=True))
    for module in scores.modules:
        assert (module.nfn, module.nfn_squared) == pytest.approx(expected[module.name], rel=tolerance), module.name


@torch.no_grad()
def columns(module: Any) -> torch.Tensor:
    """W, out × in."""
    bias = 0 if module.bias is None else module.bias
    return (module(torch.eye(module.in_features)) - bias).T


@pytest.mark.parametrize("asked", ["4bit", "8bit"], indirect=True)
def test_twice_the_same_model_gives_the_same_digits(asked: tuple[Any, ...]) -> None:
    """Also after the forward passes in which bitsandbytes repacks its weights."""
    model, tokenizer = load(identify(*asked), Loading(dtype="float32", device="cpu"))
    first, second = (score(model, tokenizer, TEXTS).modules for _ in range(2))
    assert first == second


def test_quantized_or_not_are_two_runs_of_one_model(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'plop-cli[quant]' is missing")
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))

    def run(*options: str) -> Any:
        command = ["score", str(tiny), "--task", "sample/math", "-n", "2", "--json", *options]
        return json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)

    plain, nf4 = run(), run("--load-in", "4bit")
    assert nf4["model"] == plain["model"]
    assert (plain["settings"]["quantization"], nf4["settings"]["quantization"]) == (None, "nf4")
    assert nf4["key"] != plain["key"]
    assert "bitsandbytes" in nf4["versions"]
    assert run("--load-in", "4bit") == nf4 | {"cached": True}


def test_a_gguf_says_what_it_is_quantized_to(tmp_path: Path) -> None:
    demo = models.demo_file()
    assert quantization.name_of_gguf(demo) == "gguf-Q4_1"
    (tmp_path / "empty.gguf").write_bytes(b"")
    assert quantization.name_of_gguf(tmp_path / "empty.gguf") == "gguf"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}, "int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao-int8_weight_only"),
        ({"quant_method": "gptq", "bits": 4}, "gptq-4bit"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
def test_names(config: dict[str, Any], name: str) -> None:
    assert quantization.name_of(config) == name


def test_what_is_quantized_is_not_quantized_again() -> None:
    with pytest.raises(PlopError, match=r"is quantized already \(gguf-Q4_1\); leave out --load-in"):
        identify("demo", Loading(load_in="4bit"))


@pytest.mark.parametrize(("asked", "package"), [("4bit", "bitsandbytes"), ("torchao", "torchao")], indirect=["asked"])
def test_a_missing_package_is_said_with_the_extra_that_brings_it(
    asked: tuple[Any, ...], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plop_cli.errors.find_spec", lambda name: None)
    with pytest.raises(PlopError, match=rf"needs {package}, .*pip install 'plop-cli\[quant\]'"):
        load(identify(*asked), Loading(dtype="float32", device="cpu"))


def test_list_modules_knows_a_quantized_checkpoint(bnb: Path, tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["score", str(bnb), "--list-modules", "--json"], catch_exceptions=False)
    down = next(m for m in json.loads(listed.stdout)["modules"] if m["type"] == "down_proj")
    assert (down["in_features"], down["out_features"]) == (256, 128)


def test_a_hub_model_tells_its_quantization_from_its_whole_config(
    bnb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    files = [SimpleNamespace(rfilename=file.name) for file in bnb.iterdir()]
    info = SimpleNamespace(siblings=files, sha="c0ffee", safetensors=None, config={"quantization_config": {}})
    monkeypatch.setattr("plop_cli.hub.ask", lambda *_: info)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda name, file, revision: shutil.copy(bnb / file, tmp_path)
    )
    assert identify("org/tiny-nf4").quantization == "nf4"
