"""What a model is made of, from its class and configuration alone; and with that the paper's own parameter counts."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from plop_cli.network.anatomy import Anatomy, anatomy
from plop_cli.placement.recommend import recommend
from small_models import Toy

D, G, U = "down_proj", "gate_proj", "up_proj"
K, Q, V, O = "k_proj", "q_proj", "v_proj", "o_proj"  # noqa: E741  (the paper's letters)


def on_meta(config: Any) -> Any:
    with torch.device("meta"):
        kind = AutoModelForCausalLM if type(config) in AutoModelForCausalLM._model_mapping else AutoModel
        return kind.from_config(config)


# The numbers of the models' own config.json.
QWEN3_0_6B = Qwen3Config(
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
QWEN3_1_7B = Qwen3Config(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
QWEN25_0_5B = Qwen2Config(
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
LLAMA32_1B = LlamaConfig(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    tie_word_embeddings=True,
)
CONFIGS = {"0.6B": QWEN3_0_6B, "1.7B": QWEN3_1_7B, "0.5B": QWEN25_0_5B, "1B": LLAMA32_1B}


@functools.cache
def model_of(name: str) -> Anatomy:
    return anatomy(on_meta(CONFIGS[name]))


@pytest.mark.parametrize(
    ("model", "types", "rank", "millions"),
    [
        # Table 1
        ("0.6B", (D, U, V), 76, "21.8"),
        ("0.6B", (D, U, V), 64, "18.4"),
        ("0.6B", (G, K, Q), 64, "16.5"),
        ("0.6B", (D, G, U), 64, "22.0"),
        ("0.6B", (K, Q, V), 64, "12.8"),
        ("0.6B", (D, G, U, K, Q, V, O), 64, "40.4"),
        # Table 2
        ("1.7B", (D, O, V), 102, "43.9"),
        ("1.7B", (D, O, V), 64, "27.5"),
        ("1.7B", (G, K, Q), 64, "27.5"),
        ("1.7B", (D, G, U), 64, "44.0"),
        ("1.7B", (K, Q, V), 64, "18.4"),
        ("1.7B", (D, G, U, K, Q, V, O), 64, "69.7"),
        # Table 3
        ("1.7B", (Q, K, V), 25, "7.17"),
        ("1.7B", (U, G, D), 16, "11.01"),
        ("1.7B", (Q, K, G), 16, "6.88"),
        ("1.7B", (V, O, D), 16, "6.88"),
        ("1.7B", (V, O, D), 25, "10.75"),
    ],
)
def test_trainable_parameters_are_those_of_the_papers_tables(
    model: str, types: tuple[str, ...], rank: int, millions: str
) -> None:
    placement = recommend(targets=types, rank=rank, model=model_of(model))
    digits = len(millions.partition(".")[2])
    assert f"{placement.trainable_parameters / 1e6:.{digits}f}" == millions


def test_one_number_of_table_3_is_cut_and_not_rounded() -> None:
    """Attn at rank 16 has 4,587,520 parameters, which the paper prints as 4.58."""
    assert recommend(targets=(Q, K, V), rank=16, model=model_of("1.7B")).trainable_parameters == 4_587_520


@pytest.mark.parametrize(
    ("model", "types", "match", "rounding", "rank"),
    [
        ("0.6B", (D, U, V), "mlp:64", "down", 76),  # Table 1
        ("1.7B", (D, O, V), "mlp:64", "down", 102),  # Table 2
        ("0.5B", (K, Q, V), "mlp:8", "up", 36),  # Appendix C.2
        ("0.5B", (V, O, U), "mlp:8", "up", 17),
        ("1B", (K, Q, V), "mlp:8", "up", 27),
        ("1B", (V, O, D), "mlp:8", "up", 15),
        ("0.5B", (V, O, U), "mlp:8", "down", 16),
        ("0.5B", (V, O, U), "mlp:8", "nearest", 16),
        ("1B", (V, O, D), "mlp:8", "nearest", 15),
    ],
)
def test_matched_ranks_are_those_of_the_paper(
    model: str, types: tuple[str, ...], match: str, rounding: Any, rank: int
) -> None:
    assert recommend(targets=types, match=match, rounding=rounding, model=model_of(model)).rank == rank


def test_strategies_are_the_papers() -> None:
    placement = recommend(targets=(D, U, V), rank=64, model=model_of("0.6B"))
    assert [(each.name, each.types) for each in placement.strategies] == [
        ("Attn (Q-K-V)", (K, Q, V)),
        ("MLP", (D, G, U)),
        ("all-linear", (D, G, K, O, Q, U, V)),
    ]


def test_the_size_of_the_model_counts_tied_weights_once() -> None:
    assert model_of("0.5B").parameters == 494_032_768  # as on its model card: 0.49B


LLAMA_LIKE = ((K, Q, V), (D, G, U), {O})
GPT2_LIKE = (("c_attn",), ("c_fc", "mlp.c_proj"), {"attn.c_proj"})
NEOX_LIKE = (("query_key_value",), ("dense_4h_to_h", "dense_h_to_4h"), {"dense"})
FAMILIES = {
    **dict.fromkeys(
        ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "stablelm", "olmo2", "cohere2"],
        LLAMA_LIKE,
    ),
    **dict.fromkeys(["gpt2", "gpt_bigcode"], GPT2_LIKE),
    **dict.fromkeys(["gpt_neox", "falcon", "bloom"], NEOX_LIKE),
    "phi3": (("qkv_proj",), (D, "gate_up_proj"), {O}),
    "opt": ((K, Q, V), ("fc1", "fc2"), {"out_proj"}),
    "codegen": (("qkv_proj",), ("fc_in", "fc_out"), {"out_proj"}),
    "bert": (("key", "query", "value"), ("intermediate.dense", "layer.output.dense"), {"attention.output.dense"}),
    "deepseek_v3": (
        ("kv_a_proj_with_mqa", "kv_b_proj", "q_b_proj"),
        (
            "experts.down_proj",
            "gate_up_proj",
            *(f"{place}.{name}" for place in ("mlp", "shared_experts") for name in (D, G, U)),
        ),
        {O, "q_a_proj"},
    ),
    "mixtral": ((K, Q, V), (D, "gate_up_proj"), {O}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_and_feed_forward_are_told_by_what_meets_in_a_product(family: str) -> None:
    """Fused projections, parallel blocks, one head for all keys, and any order of definition; no name is looked at."""
    attention, feed_forward, others = FAMILIES[family]
    found = anatomy(on_meta(AutoConfig.for_model(family)))
    types = {module.type for module in found.modules} - {"pooler.dense"}
    assert (found.attention, found.feed_forward) == (attention, feed_forward)
    assert types - set(attention) - set(feed_forward) == others


def test_the_model_is_left_as_it_is() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_layer=1, n_embd=32, n_head=2))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    anatomy(model.train())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_a_model_that_cannot_be_traced_still_has_modules_and_a_size() -> None:
    """Longformer's attention looks at the values of its mask."""
    found = anatomy(on_meta(AutoConfig.for_model("longformer", attention_window=[4] * 12)))
    assert (found.attention, found.feed_forward) == ((), ())
    assert found.parameters > 1e8
    assert len(found.modules) > 100
    toy = anatomy(Toy(torch.eye(8), torch.randn(3, 8)))
    assert [module.name for module in toy.modules] == ["linear"]
