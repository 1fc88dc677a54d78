"""Every architecture of `architectures.py`: types, layers, scores against brute force, PEFT on the chosen modules."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

import architectures
import brute_force
from architectures import ARCHITECTURES
from plop_cli import PlopError, recommend, score
from plop_cli.network.modules import LinearModule, linear_modules
from small_models import byte_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "Half of 12 is 6, and half of 6 is 3.",
    "Why?",
    "A train leaves at noon; when does it arrive?",
    "def f(x):\n    return x + 1",
]
FAST = ["Phi-3", "DeepSeek-V3", "gpt-oss", "T5", "Gemma 3 (vision)"]
EACH = pytest.mark.parametrize("name", ARCHITECTURES)
EACH_SLOWLY = pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)


def on(layers: list[int], *types: str) -> dict[str, list[int]]:
    return dict.fromkeys(types, layers)


ATTENTION = on([0, 1], "q_proj", "k_proj", "v_proj", "o_proj")
LLAMA = ATTENTION | on([0, 1], "gate_proj", "up_proj", "down_proj")
FUSED = on([0, 1], "query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
BERT = on([0, 1], "query", "key", "value", "attention.output.dense", "intermediate.dense", "layer.output.dense")
T5_ATTENTION = on(
    [0, 1],
    *(f"{side}.block.layer.SelfAttention.{part}" for side in ("encoder", "decoder") for part in "qkvo"),
    *(f"EncDecAttention.{part}" for part in "qkvo"),
)


def t5_mlp(*parts: str) -> dict[str, list[int]]:
    return on(
        [0, 1], *(f"{side}.block.layer.DenseReluDense.{part}" for side in ("encoder", "decoder") for part in parts)
    )


PINNED = {
    **dict.fromkeys(("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma 2", "Gemma 3 (text)", "StableLM"), LLAMA),
    **dict.fromkeys(("OLMo 2", "Cohere 2", "Granite", "SmolLM 3", "Llama, a classifier"), LLAMA),
    **dict.fromkeys(("Gemma 3 (vision)", "LLaVA", "Qwen2.5-VL"), LLAMA),
    "Phi-3": on([0, 1], "qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "GPT-2": on([0, 1], "c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"),
    **dict.fromkeys(("GPT-NeoX", "Falcon", "Falcon (grouped)", "BLOOM"), FUSED),
    "OPT": on([0, 1], "q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    "DeepSeek-V3": on([0, 1, 2], "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
    | on([0], "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    | on([1, 2], "shared_experts.gate_proj", "shared_experts.up_proj", "shared_experts.down_proj")
    | on([1] * 8 + [2] * 8, "gate_up_proj", "experts.down_proj"),
    "Mixtral": ATTENTION | on([0] * 8 + [1] * 8, "gate_up_proj", "down_proj"),
    "Qwen3-MoE": ATTENTION | on([0] * 16 + [1] * 16, "gate_up_proj", "down_proj"),
    "gpt-oss": ATTENTION | on([0] * 8 + [1] * 8, "gate_up_proj", "down_proj"),
    **dict.fromkeys(("Mamba", "Falcon-Mamba"), on([0, 1], "in_proj", "x_proj", "dt_proj", "out_proj")),
    "Mamba-2": on([0, 1], "in_proj", "out_proj"),
    "Jamba": on([0], "in_proj", "x_proj", "dt_proj", "out_proj")
    | on([0], "gate_proj", "up_proj", "feed_forward.down_proj")
    | on([1] * 8, "gate_up_proj", "experts.down_proj")
    | on([1], "q_proj", "k_proj", "v_proj", "o_proj"),
    "Bamba": on([0], "in_proj", "out_proj")
    | on([1], "q_proj", "k_proj", "v_proj", "o_proj")
    | on([0, 1], "gate_proj", "up_proj", "down_proj"),
    **dict.fromkeys(("BERT", "RoBERTa"), BERT),
    "BERT, a classifier": BERT | {"pooler.dense": [None]},
    "ModernBERT": on([0, 1], "Wqkv", "attn.Wo", "Wi", "mlp.Wo"),
    "T5": T5_ATTENTION | t5_mlp("wi", "wo"),
    "FLAN-T5": T5_ATTENTION | t5_mlp("wi_0", "wi_1", "wo"),
    "BART": on(
        [0, 1],
        *(f"{side}.layers.self_attn.{part}_proj" for side in ("encoder", "decoder") for part in ("q", "k", "v", "out")),
        *(f"encoder_attn.{part}_proj" for part in ("q", "k", "v", "out")),
        *(f"{side}.layers.{part}" for side in ("encoder", "decoder") for part in ("fc1", "fc2")),
    ),
}  # fmt: skip


def by_type(modules: list[LinearModule]) -> dict[str, list[LinearModule]]:
    return {kind: [m for m in modules if m.type == kind] for kind in dict.fromkeys(m.type for m in modules)}


@EACH
def test_types_and_layers_are_as_pinned(name: str) -> None:
    modules, _ = linear_modules(architectures.on_meta(name))
    assert {kind: [m.layer for m in of] for kind, of in by_type(modules).items()} == PINNED[name]


@EACH
def test_nothing_is_left_out_without_a_reason(name: str) -> None:
    model = architectures.on_meta(name)
    modules, skipped = linear_modules(model)
    scored = {m.place if m.expert is None else m.place.rpartition(".")[0] for m in modules}
    with_weights = {path for path, module in model.named_modules() if list(module.parameters(recurse=False))}
    assert scored | {s.name for s in skipped} == with_weights
    assert not scored & {s.name for s in skipped}
    assert all(s.reason for s in skipped)


@EACH_SLOWLY
def test_every_score_is_that_of_a_brute_force_reading_of_definition_1(name: str) -> None:
    """1.5 %, plain and squared; experts over the tokens that the router sent; those without tokens have no score."""
    model, tokenizer = architectures.build(name), byte_tokenizer()
    scores = score(model, tokenizer, TEXTS)
    broken = {s.name for s in scores.skipped if s.reason == "it is not called with one input per token"}
    names = [m.name for m in linear_modules(model)[0] if m.name not in broken]
    truth = dict(zip(names, brute_force.brute_force(model, tokenizer, TEXTS, names), strict=True))
    found = {m.name: (m.nfn, m.nfn_squared) for m in scores.modules}
    assert found.keys() == {name for name, (nfn, _) in truth.items() if nfn == nfn}
    for module, values in found.items():
        assert values == pytest.approx(truth[module], rel=0.015), module
    assert max(abs(nfn - 1) for nfn, _ in found.values()) > 0.05, "weights are uneven, so that 1 is no answer"


@EACH_SLOWLY
@pytest.mark.filterwarnings("ignore:.*fan_in_fan_out")
def test_peft_adapts_exactly_the_chosen_modules(name: str) -> None:
    """Every second type, and then the others: names and parameters as the scores have them."""
    kinds = [kind for kind in PINNED[name] if kind not in PEFT_REFUSES.get(name, ())]
    for types in filter(None, (kinds[::2], kinds[1::2])):
        model = architectures.build(name)
        chosen = {m.place for m in linear_modules(model)[0] if m.type in types}
        placement = recommend(targets=types, rank=2, model=model)
        tuned = placement.apply(model)
        assert adapted(tuned.base_model.model) == set(placement.matched_modules) == chosen
        lora = sum(p.numel() for key, p in tuned.named_parameters() if p.requires_grad and ".lora_" in key)
        assert lora == placement.trainable_parameters


PEFT_REFUSES = {name: {"out_proj"} for name in ("Mamba", "Mamba-2", "Falcon-Mamba")}
"""Their kernels read that weight past the module."""


def adapted(model: nn.Module) -> set[str]:
    names = set()
    for path, module in model.named_modules():
        if isinstance(module, ParamWrapper):
            names.add(f"{path.removesuffix('.base_layer')}.{module.parameter_name}".removesuffix(".weight"))
        elif isinstance(module, LoraLayer):
            names.add(path)
    return names


def test_the_page_of_architectures_is_up_to_date() -> None:
    """python tests/support/architectures.py > docs/architectures.md"""
    page = Path(__file__).parent.parent.parent / "docs" / "architectures.md"
    assert page.read_text() == architectures.document()


# Weights that are not met as the others are


@pytest.mark.parametrize("name", ["Mamba", "Falcon-Mamba", "Jamba"])
def test_a_weight_that_is_used_without_calling_its_module_is_left_out_and_nothing_else(name: str) -> None:
    scores = score(architectures.build(name), byte_tokenizer(), TEXTS)
    idle = [s.name for s in scores.skipped if s.reason == "it is not called with tokens, though its weight may be used"]
    assert {path.rpartition(".")[2] for path in idle} == {"dt_proj"}
    assert {kind.type for kind in scores.types} == PINNED[name].keys() - {"dt_proj"}


class ListOfExperts(nn.Module):
    """A layer whose experts are a list of modules, as code of one's own often has them."""

    def __init__(self, inner: nn.Module, experts: int) -> None:
        super().__init__()
        self.inner, self.experts = inner, nn.ModuleList(copy.deepcopy(inner) for _ in range(experts))

    def forward(self, z: Any) -> Any:
        chosen = z[..., 0].lt(z[..., 1]).long()  # the first two alone
        routed = torch.zeros_like(z)
        for number, expert in enumerate(self.experts[:2]):
            routed[chosen == number] = expert(z[chosen == number])
        return self.inner(z) + routed


def test_experts_in_a_list_are_one_warning_for_each_group() -> None:
    model = architectures.build("Llama")
    for layer in model.model.layers:
        layer.mlp = ListOfExperts(layer.mlp, 8)
    scores = score(model, byte_tokenizer(), TEXTS)
    assert len(scores.skipped) - len(linear_modules(model)[1]) == 2 * 8 * 3
    assert sorted(warning.partition(": ")[2] for warning in scores.warnings) == sorted(
        f"{why} (so are {number} of 16 experts.{kind})"
        for kind in ("gate_proj", "up_proj", "down_proj")
        for why, number in (
            ("it is not called with one input per token", 4),
            ("it is not called with tokens, though its weight may be used", 12),
        )
    )
    assert {kind.type: kind.modules for kind in scores.types}["inner.up_proj"] == 2


# Encoder-decoders


def test_a_decoder_sees_as_many_tokens_as_its_encoder_and_the_output_head_is_not_run() -> None:
    model, runs = architectures.build("T5"), []
    model.lm_head.register_forward_hook(lambda *_: runs.append(1))
    scores = score(model, byte_tokenizer(), ["Why?", "Half of 12 is 6."])
    assert {m.tokens for m in scores.modules} == {20}
    assert runs == []


def test_a_model_that_takes_sound_is_an_error() -> None:
    small = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 257, "pad_token_id": 256}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = hf.WhisperModel(hf.WhisperConfig(**small, **heads, encoder_ffn_dim=64, decoder_ffn_dim=64))
    with pytest.raises(PlopError, match="WhisperModel takes input_features, and a task has texts alone"):
        score(model, byte_tokenizer(), ["x"])


# Towers and heads


def reasons(name: str, *prefixes: str) -> set[str]:
    return {s.reason for s in linear_modules(architectures.on_meta(name))[1] if s.name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("name", "tower"),
    [("Gemma 3 (vision)", "model.vision_tower"), ("LLaVA", "model.vision_tower"), ("Qwen2.5-VL", "model.visual")],
)
def test_a_vision_tower_is_left_out_for_what_it_is(name: str, tower: str) -> None:
    assert reasons(name, tower) == {"the vision tower: texts do not run through it"}


@pytest.mark.parametrize("name", ["Gemma 3 (vision)", "LLaVA"])
def test_a_projector_is_left_out_for_what_it_is(name: str) -> None:
    assert reasons(name, "model.multi_modal_projector") == {
        "beside the language model: it joins what the towers see to the text"
    }


@pytest.mark.parametrize(("name", "head"), [("Llama, a classifier", "score"), ("BERT, a classifier", "classifier")])
def test_a_classification_head_is_left_out_for_what_it_is(name: str, head: str) -> None:
    assert reasons(name, head) == {"a head on top of the model's body: it is not run"}


@pytest.mark.parametrize(
    ("name", "include", "message"),
    [
        ("Gemma 3 (vision)", "vision", "takes pixel_values, which texts do not give; leave out --include vision"),
        ("Qwen2.5-VL", "vision", "takes hidden_states, which texts do not give"),
        ("LLaVA", "audio", "has no audio tower; it has vision"),
        ("Llama", "vision", "has no vision tower; leave out --include vision"),
    ],
)
def test_a_tower_that_texts_do_not_reach_cannot_be_included(name: str, include: str, message: str) -> None:
    with pytest.raises(PlopError, match=message):
        linear_modules(architectures.on_meta(name), [include])


class Reads(hf.PreTrainedModel):
    """A language model beside a "vision" tower that reads the same tokens."""

    config_class = hf.LlavaConfig
    base_model_prefix = "model"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.language_model = hf.AutoModel.from_config(config.text_config)
        self.vision_tower = hf.AutoModel.from_config(config.vision_config)

    def forward(self, **inputs: Any) -> Any:
        inputs.pop("use_cache", None)
        return self.vision_tower(**inputs), self.language_model(**inputs)


def test_a_tower_that_texts_run_through_is_scored_where_it_is_included() -> None:
    text, vision = ARCHITECTURES["Llama"][1](), ARCHITECTURES["BERT"][1]()
    model = Reads(hf.LlavaConfig(text_config=text, vision_config=vision))
    alone = score(model, byte_tokenizer(), TEXTS)
    both = score(model, byte_tokenizer(), TEXTS, include=["vision"])
    assert {m.name.partition(".")[0] for m in alone.modules} == {"language_model"}
    towers = {m.name: m.nfn for m in both.modules if m.name.startswith("vision_tower.encoder")}
    assert len(towers) == 12
    assert {m.name: m.nfn for m in both.modules if m.name.startswith("language")} == {
        m.name: m.nfn for m in alone.modules
    }
    assert both.settings == alone.settings | {"include": ["vision"]}


@pytest.mark.parametrize("name", ["BERT", "RoBERTa"])
def test_as_many_tokens_as_the_model_has_positions_for_and_no_more(name: str) -> None:
    """RoBERTa's 640 positions start after the padding's, so a text has 383 of them here."""
    model = architectures.build(name)
    limit = {"BERT": 256, "RoBERTa": 640 - 257}[name]
    scores = score(model, byte_tokenizer(), ["Half of 12 is 6. " * 60], max_length=limit)
    assert scores.tokens == limit
    with pytest.raises(PlopError, match=f"the model has {limit} positions; give --max-length {limit} or less"):
        score(model, byte_tokenizer(), TEXTS, max_length=limit + 1)


# Broken weights


def test_rank_deficient_and_zero_weights_give_no_nan_and_are_named_in_a_warning() -> None:
    model = architectures.build("Llama")
    low, zero = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
    with torch.no_grad():
        model.get_submodule(low).weight.copy_(torch.randn(64, 3) @ torch.randn(3, 64))
        model.get_submodule(zero).weight.zero_()
    found = score(model, byte_tokenizer(), TEXTS)
    assert found.warnings == (
        f"{low} has rank 3, and its shape allows 64",
        f"{zero} is left out: its weight is zero",
    )
    numbers = [*found.matrix.sums.flat, *found.matrix.squares.flat]
    numbers += [value for s in (*found.types, *found.modules) for value in (s.nfn, s.nfn_squared, s.stderr)]
    assert all(number == number for number in numbers)
    assert {m.name for m in found.modules} == {m.name for m in linear_modules(model)[0]} - {zero}


@EACH_SLOWLY
def test_no_weight_of_an_architecture_is_taken_for_broken(name: str) -> None:
    warnings = score(architectures.build(name), byte_tokenizer(), TEXTS).warnings
    assert not [warning for warning in warnings if "rank" in warning or "zero" in warning]
