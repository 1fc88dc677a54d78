"""Which modules are scored, their type and layer, and why the others are not: on real architectures without weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    BertConfig,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    MixtralConfig,
    Qwen3MoeConfig,
    SiglipVisionConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from plop_cli.names import layer_of, module_types
from plop_cli.network.body import body
from plop_cli.network.modules import linear_modules

WIDTHS = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**WIDTHS, "num_key_value_heads": 2, "head_dim": 8}
IMAGE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
PIXELS = {"image_size": 28, "patch_size": 14}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def on_meta(kind: Any, config: Any) -> Any:
    with torch.device("meta"):
        return getattr(kind, "from_config", kind)(config)


def llama() -> Any:
    return on_meta(AutoModelForCausalLM, LlamaConfig(**GROUPED))


def reasons(model: nn.Module) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in linear_modules(model)[1]}


def types(model: nn.Module) -> list[str]:
    return list(dict.fromkeys(module.type for module in linear_modules(model)[0]))


# Types and layers


def test_a_linear_module_has_its_path_type_layer_and_shape_and_needs_no_weights() -> None:
    modules, _ = linear_modules(llama())
    assert len(modules) == 14
    down = modules[-1]
    assert (down.name, down.type, down.layer) == ("model.layers.1.mlp.down_proj", "down_proj", 1)
    assert (down.in_features, down.out_features, down.module.weight.device.type) == (48, 32, "meta")
    assert types(llama()) == ATTENTION + MLP


def test_a_conv1d_is_linear_and_has_its_shape_the_right_way_round() -> None:
    modules, _ = linear_modules(on_meta(AutoModelForCausalLM, GPT2Config(n_embd=32, n_layer=2, n_head=4)))
    assert [(m.type, m.in_features, m.out_features) for m in modules[:4]] == [
        ("c_attn", 32, 96),
        ("attn.c_proj", 32, 32),
        ("c_fc", 32, 128),
        ("mlp.c_proj", 128, 32),
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layers.0.mlp.up", "layers.1.mlp.up", "layers.0.attn.q"], ["up", "up", "q"]),
        (["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.mlp.c_fc"], ["attn.c_proj", "mlp.c_proj", "c_fc"]),
        (["a.0.x.out.w", "a.0.y.out.w", "a.1.x.out.w"], ["x.out.w", "y.out.w", "x.out.w"]),
        (["encoder.0.o.w", "encoder.0.a.o.w"], ["encoder.o.w", "a.o.w"]),
        (["w", "layers.0.w"], ["w", "layers.w"]),
        (["lone"], ["lone"]),
    ],
)
def test_a_type_is_the_last_part_extended_to_the_left_while_two_places_share_it(
    names: list[str], expected: list[str]
) -> None:
    assert list(module_types(names).values()) == expected


@pytest.mark.parametrize(
    ("name", "layer"),
    [("model.layers.12.mlp.up", 12), ("encoder.block.3.layer.1.wi", 3), ("pooler.dense", None), ("h0.proj", None)],
)
def test_the_layer_is_the_first_number_in_the_path(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


def test_the_same_layer_of_an_encoder_and_of_a_decoder_are_two_types() -> None:
    model = on_meta(T5ForConditionalGeneration, T5Config(d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8))
    found = types(model)
    assert "encoder.block.layer.SelfAttention.q" in found
    assert "decoder.block.layer.SelfAttention.q" in found
    assert "EncDecAttention.q" in found


def test_no_module_is_known_by_its_name() -> None:
    """With every module's name in the blocks spelled backwards, the same are scored and the same are skipped."""
    model = on_meta(AutoModelForCausalLM, MixtralConfig(**GROUPED, num_local_experts=4))
    scored, skipped = linear_modules(model)
    for module in list(model.model.layers.modules()):
        if not isinstance(module, nn.ModuleList):
            module._modules = {name[::-1]: child for name, child in module._modules.items()}
    backwards, skipped_backwards = linear_modules(model)
    names = [module.type if module.expert is not None else module.type[::-1] for module in backwards]
    assert names == [module.type for module in scored], "experts are parameters, named by transformers"
    assert [module.module for module in backwards] == [module.module for module in scored]
    assert [module.reason for module in skipped_backwards] == [module.reason for module in skipped]


def test_a_name_that_sounds_like_a_head_or_a_router_is_no_reason_to_skip() -> None:
    names = ["lm_head", "classifier", "gate", "router", "embed_tokens", "vision_tower", "norm"]
    modules, skipped = linear_modules(nn.ModuleDict({name: nn.Linear(4, 4) for name in names}))
    assert [module.type for module in modules] == names
    assert skipped == []


# What is not scored


def test_embeddings_norms_and_the_output_head_are_skipped_with_a_reason_each() -> None:
    found = reasons(llama())
    assert found["lm_head"] == "the output head: its product is not computed"
    assert found["model.embed_tokens"] == "an embedding looks rows up"
    assert found["model.norm"] == "LlamaRMSNorm holds vectors, no matrix"
    assert len(found) == 7


def test_the_body_that_runs_holds_no_output_head() -> None:
    model = llama()
    assert body(model) is model.model
    assert model.lm_head not in set(body(model).modules())


def test_every_module_with_weights_is_either_scored_or_skipped_with_a_reason() -> None:
    model = llama()
    modules, skipped = linear_modules(model)
    with_weights = {name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    assert {module.name for module in modules} | {module.name for module in skipped} == with_weights
    assert all(module.reason for module in skipped)


@pytest.mark.parametrize(
    "config",
    [MixtralConfig(**GROUPED, num_local_experts=4), Qwen3MoeConfig(**GROUPED, num_experts=4, moe_intermediate_size=16)],
    ids=["mixtral", "qwen3-moe"],
)
def test_a_router_is_skipped_and_experts_stacked_in_one_tensor_are_scored_one_by_one(config: Any) -> None:
    model = on_meta(AutoModelForCausalLM, config)
    assert types(model) == [*ATTENTION, "gate_up_proj", "down_proj"]
    assert reasons(model)["model.layers.0.mlp.gate"] == "a router chooses experts"
    down = [module for module in linear_modules(model)[0] if module.place == "model.layers.1.mlp.experts.down_proj"]
    assert [module.name for module in down] == [f"model.layers.1.mlp.experts.down_proj[{i}]" for i in range(4)]
    inner = getattr(config, "moe_intermediate_size", config.intermediate_size)
    assert {(module.in_features, module.out_features) for module in down} == {(inner, 32)}


def test_a_router_over_a_list_of_experts_is_skipped_and_the_experts_are_not() -> None:
    mixture = nn.ModuleDict(
        {"choose": nn.Linear(8, 3, bias=False), "experts": nn.ModuleList(nn.Linear(8, 8) for _ in range(3))}
    )
    assert reasons(nn.ModuleDict({"mixture": mixture})) == {"mixture.choose": "a router chooses experts"}
    assert types(nn.ModuleDict({"mixture": mixture})) == ["experts"]


@pytest.mark.parametrize(
    ("config", "head"), [(BertConfig(**WIDTHS), "classifier"), (LlamaConfig(**GROUPED), "score")], ids=["bert", "llama"]
)
def test_a_classification_head_is_skipped(config: Any, head: str) -> None:
    model = on_meta(AutoModelForSequenceClassification, config)
    assert reasons(model)[head] == "a head on top of the model's body: it is not run"


@pytest.mark.parametrize(
    "config",
    [
        Gemma3Config(text_config=Gemma3TextConfig(**GROUPED), vision_config=SiglipVisionConfig(**IMAGE, **PIXELS)),
        LlavaConfig(text_config=LlamaConfig(**GROUPED), vision_config=CLIPVisionConfig(**IMAGE, **PIXELS)),
    ],
    ids=["gemma3", "llava"],
)
def test_of_a_multimodal_model_only_the_language_model_is_scored(config: Any) -> None:
    model = on_meta(AutoModelForImageTextToText, config)
    modules, skipped = linear_modules(model)
    assert types(model) == ATTENTION + MLP
    assert all("language_model.layers" in module.name for module in modules)
    tower = {module.name: module.reason for module in skipped if "vision_tower" in module.name}
    assert set(tower.values()) == {"the vision tower: texts do not run through it"}
    assert "model.vision_tower.encoder.layers.0.self_attn.q_proj" in tower
    assert any("projector" in module.name for module in skipped)


def test_a_convolution_is_skipped_because_it_mixes_tokens() -> None:
    found = reasons(nn.ModuleDict({"conv": nn.Conv1d(4, 4, 3), "linear": nn.Linear(4, 4)}))
    assert found == {"conv": "a convolution mixes tokens"}
