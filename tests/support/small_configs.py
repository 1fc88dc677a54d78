"""Any configuration of transformers made small: its own numbers replaced by the first of SIZES that fits their name.

model = small("causal", "qwen3_next")      # with uneven random weights
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import torch
import transformers as hf
from torch import nn
from transformers.models.auto import modeling_auto as auto

from small_models import uneven

KINDS = {
    "causal": (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, hf.AutoModelForCausalLM),
    "masked": (auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, hf.AutoModelForMaskedLM),
    "seq2seq": (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, hf.AutoModelForSeq2SeqLM),
}
MOST = 30_000_000
"""Weights of a small model."""

SIZES: tuple[tuple[str, int], ...] = (
    (r"(.*_)?vocab_size(_per_layer_input)?|encoder_hash_byte_group_vocab|ngram_vocab_size_base", 257),
    (r"pad_token_id|decoder_start_token_id", 256),
    (r"(bos|forced_bos|cls)_token_id", 1),
    (r"(eos|sep)_token_id", 2),
    (r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length|seq_length|max_seq_length)", 640),
    (r"(encoder|decoder)_layers|(num|n)_(hidden_)?layers?|n_layer|num_(encoder|decoder)_layers|depth|num_blocks", 2),
    (r"num_self_attends_per_block", 2),
    (r"(swa_)?num_key_value_heads|num_kv_heads|n_kv_heads|kv_n_heads|multi_query_group_num", 2),
    (r".*num_key_heads|num_query_groups", 2),
    (r"(.*_)?num_attention_heads|n_heads?|(linear_)?num_heads|.*_attention_heads|.*num_value_heads|attention_heads", 4),
    (r"qk_rope_head_dim|rotary_dim", 8),
    (r"head_dim|qk_nope_head_dim|v_head_dim|d_kv|.*_head_dim|attention_head_size|head_size", 16),
    (r"(q|kv|o)_lora_rank|.*_low_rank_dim|hc_lowrank|adapter_rank", 16),
    (r"(n_routed_experts|num_experts|num_local_experts|moe_num_experts|n_experts|num_sparse_experts)", 4),
    (r"zero_expert_num|num_latents", 4),
    (r"(num_experts_per_tok(en)?|moe_topk|moe_k|top_k_experts|num_selected_experts|moe_top_k|router_top_k)", 2),
    (r"(n_group|num_expert_group|topk_group|n_shared_experts|num_shared_experts|first_k_dense_replace)", 1),
    (r"moe_layer_start_index", 1),
    (r".*(intermediate|ffn|inner|mlp|d_ff|feed_forward|feedforward).*(size|dim)|d_ff|ffn_dim|n_inner|d_inner", 96),
    (r"hidden_size(_global)?|d_model|n_embd|dim|embed_dim|emb_dim|embedding_size|d_embed|word_embed_proj_dim", 64),
    (r"hidden_dim|d_latents|output_hidden_size|width|block_size_hidden|cross_attention_hidden_size", 64),
    (r"(mamba_|ssm_)?(d_)?state(_size)?|mamba_d_state", 16),
    (r"mamba_(n|num)_heads|n_mamba_heads", 4),
    (r"mamba_d_head|mamba_head_dim|mamba_headdim", 32),
    (r"mamba_d_ssm|attention_hidden_size", 128),
    (r"(mamba_)?n_?groups", 1),
    (r"num_kv_shared_layers", 0),
    (r"image_size", 28),
    (r"patch_size", 14),
    (r"num_filters", 4),
)
KEPT = re.compile(r".*(dropout|norm|eps|theta|std|scal|coef|alpha|bias|cache).*|rope_.*|.*_rope")
"""Numbers that are no sizes."""

ABSENT = {"vocab_size": 257, "num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1}
"""What some configurations leave open that real ones have."""

PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def shrunk(config: Any) -> Any:
    """The configuration with small numbers in place of its own, also in the configurations inside of it."""
    for name, value in list(vars(config).items()):
        if isinstance(value, hf.PretrainedConfig):
            shrunk(value)
        elif value is None and name in ABSENT:
            _set(config, **{name: ABSENT[name]})
        elif isinstance(value, int | float) and not isinstance(value, bool) and not KEPT.fullmatch(name):
            _set(config, **{name: next((size for pattern, size in SIZES if re.fullmatch(pattern, name)), value)})
    if isinstance(vars(config).get("qk_rope_head_dim"), int):  # latent attention: a head is two parts
        _set(config, head_dim=8, qk_head_dim=24, num_key_value_heads=4)
    elif vars(config).get("head_dim", 0) is None:
        _set(config, head_dim=16)
    if config.is_encoder_decoder:
        _set(config, decoder_start_token_id=256)
    _short(config)
    _set(config, **FAMILIES.get(config.model_type, {}))
    if config.model_type == "dbrx":
        _dbrx(config)
    return config


def _set(config: Any, **values: Any) -> None:
    for name, value in values.items():
        with suppress(Exception):  # a property without a setter, a check of a value that will change too
            setattr(config, name, value)


def _short(config: Any) -> None:
    """As many blocks as there are kinds of them, two at least."""
    for name in ("layer_types", "layers_block_type", "block_types", "mlp_layer_types", "attention_layers"):
        kinds = getattr(config, name, None)
        if isinstance(kinds, list | tuple) and kinds and all(isinstance(kind, str) for kind in kinds):
            few = list(dict.fromkeys(kinds))
            few = few * 2 if len(few) == 1 else few
            counts = ("num_hidden_layers", "n_layers", "num_layers")
            _set(config, **{name: few}, **{n: len(few) for n in counts if isinstance(getattr(config, n, None), int)})


FAMILIES: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": PLAIN_ROPE}},
    "deepseek_v2": {"topk_method": "greedy"},
    "esm": {"mask_token_id": 3, "position_embedding_type": "rotary"},
    "esmc": {"num_key_value_heads": 4},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
        "hidden_size_per_layer_input": 16,
    },
    "gemma4_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 16,
    },
    "inkling_text": {"layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["dense", "sparse"]},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"head_dim": 32, "num_heads": 4},
    "perceiver": {"num_self_attention_heads": 4, "num_cross_attention_heads": 4},
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "reformer": {
        "axial_pos_embds_dim": (32, 32),
        "axial_pos_shape": (16, 40),
        "attn_layers": ["local", "lsh"],
    },
    "rwkv": {"attention_hidden_size": 64},
    "xlnet": {"d_head": 16},
    "xlstm": {"embedding_dim": 64, "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "num_blocks": 2},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
        "num_query_groups": 4,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "hybrid_layer_ids": [1, 3],
    },
}
"""What the numbers of SIZES do not suit."""


def _dbrx(config: Any) -> None:
    config.attn_config.rope_theta, config.attn_config.clip_qkv = 10000.0, 8.0


GIVEN: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {
        "backbone_hidden_size": 64,
        "text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 4},
    },
}
"""Arguments without which a configuration cannot be made."""


def config_of(kind: str, model_type: str) -> Any:
    """The small configuration: a Reformer is a decoder or not, and MusicGen's causal model is made of its decoder's."""
    config = shrunk(hf.AutoConfig.for_model(model_type, **GIVEN.get(model_type, {})))
    if model_type == "reformer":
        config.is_decoder = kind == "causal"
    return config.decoder if model_type.startswith("musicgen") else config


def small(kind: str, model_type: str) -> Any:
    """A small model of that family with uneven random weights, and no zero vector; ValueError if it is not small."""
    config = config_of(kind, model_type)
    with torch.device("meta"):
        weights = sum(p.numel() for p in KINDS[kind][1].from_config(config).parameters())
    if weights > MOST:
        raise ValueError(f"its small form still has {weights / 1e6:.0f} million weights")
    model = uneven(KINDS[kind][1], config)
    with torch.no_grad():
        for module in model.modules():
            for parameter in () if isinstance(module, nn.Embedding) else module.parameters(recurse=False):
                if parameter.is_floating_point() and not parameter.any():
                    parameter.normal_(generator=torch.Generator().manual_seed(1))
    return model
