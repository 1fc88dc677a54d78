"""A small model of every architecture that plop is held to, from its real configuration class, with random weights.

    python tests/support/architectures.py > docs/architectures.md

Ratios of heads and widths are those of the model named beside each; layers and experts are few.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

from plop_cli.network.modules import LinearModule, linear_modules
from plop_registry import Skipped
from small_models import uneven

LM, MASKED, SEQ2SEQ = hf.AutoModelForCausalLM, hf.AutoModelForMaskedLM, hf.AutoModelForSeq2SeqLM
CLASSIFIER, IMAGE_TEXT = hf.AutoModelForSequenceClassification, hf.AutoModelForImageTextToText

COMMON = {
    "vocab_size": 257,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _widths(hidden: int, inner: int, heads: int, kv_heads: int | None = None, **more: Any) -> dict[str, Any]:
    widths = {"hidden_size": hidden, "intermediate_size": inner, "num_attention_heads": heads}
    return COMMON | widths | ({"num_key_value_heads": kv_heads} if kv_heads else {}) | more


LLAMA = _widths(64, 224, 4, 1)

ARCHITECTURES: dict[str, tuple[Any, Callable[[], Any]]] = {
    "Llama": (LM, lambda: hf.LlamaConfig(**LLAMA)),  # Llama 3.1 8B
    "Mistral": (LM, lambda: hf.MistralConfig(**LLAMA)),  # Mistral 7B
    "Qwen2": (LM, lambda: hf.Qwen2Config(**_widths(112, 592, 7, 1))),  # Qwen2 7B
    "Qwen3": (LM, lambda: hf.Qwen3Config(**_widths(64, 192, 4, 1, head_dim=16))),  # Qwen3 8B
    "Gemma 2": (LM, lambda: hf.Gemma2Config(**_widths(56, 224, 4, 2, head_dim=16))),  # Gemma 2 9B
    "Gemma 3 (text)": (LM, lambda: hf.Gemma3TextConfig(**_widths(80, 320, 4, 2, head_dim=16))),  # Gemma 3 4B
    "Phi-3": (LM, lambda: hf.Phi3Config(**_widths(64, 224, 4, 1))),  # Phi-3 medium
    "GPT-2": (LM, lambda: hf.GPT2Config(**COMMON, n_embd=64, n_layer=2, n_head=4, n_positions=256)),
    "GPT-NeoX": (LM, lambda: hf.GPTNeoXConfig(**_widths(64, 256, 4))),  # GPT-NeoX 20B
    "Falcon": (LM, lambda: hf.FalconConfig(**_widths(80, 320, 5), ffn_hidden_size=320)),  # Falcon 7B: one key head
    "Falcon (grouped)": (  # Falcon 40B
        LM,
        lambda: hf.FalconConfig(**_widths(64, 256, 8), num_kv_heads=2, new_decoder_architecture=True),
    ),
    "OPT": (LM, lambda: hf.OPTConfig(**_widths(64, 256, 4), ffn_dim=256, word_embed_proj_dim=64)),  # OPT 6.7B
    "BLOOM": (LM, lambda: hf.BloomConfig(**COMMON, hidden_size=64, n_layer=2, n_head=4)),  # BLOOM 7B1
    "StableLM": (LM, lambda: hf.StableLmConfig(**_widths(64, 176, 4, 4, use_qkv_bias=True))),  # StableLM 2 1.6B
    "OLMo 2": (LM, lambda: hf.Olmo2Config(**_widths(64, 172, 4, 4))),  # OLMo 2 7B
    "Cohere 2": (LM, lambda: hf.Cohere2Config(**LLAMA)),  # Command R7B
    "Granite": (LM, lambda: hf.GraniteConfig(**_widths(64, 200, 4, 1))),  # Granite 3.1 8B
    "SmolLM 3": (LM, lambda: hf.SmolLM3Config(**_widths(64, 344, 4, 1))),  # SmolLM3 3B
    "DeepSeek-V3": (
        LM,
        lambda: hf.DeepseekV3Config(
            **_widths(112, 288, 4, 4) | {"num_hidden_layers": 3},
            moe_intermediate_size=32,
            q_lora_rank=24,
            kv_lora_rank=8,
            qk_nope_head_dim=16,
            qk_rope_head_dim=8,
            v_head_dim=16,
            n_routed_experts=8,
            num_experts_per_tok=2,
            n_group=4,
            topk_group=2,
            n_shared_experts=1,
            first_k_dense_replace=1,
        ),
    ),
    "Mixtral": (LM, lambda: hf.MixtralConfig(**LLAMA, num_local_experts=8)),  # Mixtral 8x7B
    "Qwen3-MoE": (  # Qwen3 30B-A3B
        LM,
        lambda: hf.Qwen3MoeConfig(
            **_widths(64, 192, 8, 1, head_dim=16), moe_intermediate_size=24, num_experts=16, num_experts_per_tok=2
        ),
    ),
    "gpt-oss": (  # gpt-oss-20b
        LM,
        lambda: hf.GptOssConfig(
            **_widths(88, 88, 8, 1, head_dim=16),
            num_local_experts=8,
            num_experts_per_tok=2,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={"rope_type": "default", "rope_theta": 150000.0},
        ),
    ),
    "Mamba-2": (  # Mamba-2 2.7B
        LM,
        lambda: hf.Mamba2Config(**COMMON, hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=1),
    ),
    "Mamba": (LM, lambda: hf.MambaConfig(**COMMON, hidden_size=64, state_size=16)),  # Mamba 2.8B
    "Falcon-Mamba": (LM, lambda: hf.FalconMambaConfig(**COMMON, hidden_size=64, state_size=16)),  # Falcon-Mamba 7B
    "Jamba": (  # Jamba 1.5 Mini
        LM,
        lambda: hf.JambaConfig(
            **LLAMA, num_experts=8, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, mamba_dt_rank=2
        ),
    ),
    "Bamba": (  # Bamba 9B, a hybrid
        LM,
        lambda: hf.BambaConfig(
            **LLAMA, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=16, mamba_d_state=32, mamba_n_groups=1
        ),
    ),
    "BERT": (MASKED, lambda: hf.BertConfig(**_widths(64, 256, 4))),
    "RoBERTa": (MASKED, lambda: hf.RobertaConfig(**_widths(64, 256, 4) | {"max_position_embeddings": 640})),
    "ModernBERT": (
        MASKED,
        lambda: hf.ModernBertConfig(**_widths(96, 144, 6), cls_token_id=1, sep_token_id=2, classifier_pooling="mean"),
    ),
    "T5": (SEQ2SEQ, lambda: _t5(d_ff=256)),
    "FLAN-T5": (SEQ2SEQ, lambda: _t5(d_ff=176, feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "BART": (
        SEQ2SEQ,
        lambda: hf.BartConfig(
            **COMMON,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=256,
            decoder_ffn_dim=256,
        ),
    ),
    "Llama, a classifier": (CLASSIFIER, lambda: hf.LlamaConfig(**LLAMA)),
    "BERT, a classifier": (CLASSIFIER, lambda: hf.BertConfig(**_widths(64, 256, 4))),
    "Gemma 3 (vision)": (
        IMAGE_TEXT,
        lambda: hf.Gemma3Config(
            text_config=hf.Gemma3TextConfig(**_widths(80, 320, 4, 2, head_dim=16)),
            vision_config=hf.SiglipVisionConfig(**VISION),
        ),
    ),
    "LLaVA": (
        IMAGE_TEXT,
        lambda: hf.LlavaConfig(text_config=hf.LlamaConfig(**LLAMA), vision_config=hf.CLIPVisionConfig(**VISION)),
    ),
    "Qwen2.5-VL": (
        IMAGE_TEXT,
        lambda: hf.Qwen2_5_VLConfig(
            text_config=_widths(112, 592, 7, 1)
            | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}},
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "num_heads": 2,
                "intermediate_size": 86,
                "out_hidden_size": 112,
            },
        ),
    ),
}


def _t5(**widths: Any) -> Any:
    return hf.T5Config(
        vocab_size=257,
        d_model=64,
        d_kv=16,
        num_heads=4,
        num_layers=2,
        pad_token_id=256,
        decoder_start_token_id=256,
        **widths,
    )


def build(name: str) -> Any:
    """The architecture's model, with uneven weights: NFN is not 1 everywhere, as it is at initialisation."""
    kind, config = ARCHITECTURES[name]
    return uneven(kind, config())


def on_meta(name: str) -> Any:
    """The same model without weights."""
    kind, config = ARCHITECTURES[name]
    with torch.device("meta"):
        return kind.from_config(config())


def document() -> str:
    """docs/architectures.md."""
    sections = [_section(name) for name in ARCHITECTURES]
    return "\n\n".join([_HEAD, *sections]) + "\n"


def _section(name: str) -> str:
    model = on_meta(name)
    modules, skipped = linear_modules(model)
    return "\n".join(
        [
            f"## {name}",
            "",
            f"`{type(model).__name__}`",
            "",
            "| type | modules | layers | such as |",
            "|---|--:|---|---|",
            *(_row(kind, [m for m in modules if m.type == kind]) for kind in dict.fromkeys(m.type for m in modules)),
            "",
            "Left out: " + "; ".join(_left_out(skipped)) + ".",
        ]
    )


def _row(kind: str, of: list[LinearModule]) -> str:
    layers = [m.layer for m in of if m.layer is not None]
    span = "–".join(str(layer) for layer in sorted({min(layers), max(layers)})) if layers else ""
    return f"| `{kind}` | {len(of)} | {span} | `{of[0].name}` |"


def _left_out(skipped: list[Skipped]) -> list[str]:
    """`lm_head` (the output head: …), and 2 like `model.layers.0.mlp.gate` (a router chooses experts)."""
    first = {skip.reason: skip.name for skip in reversed(skipped)}
    return [
        (f"{number} like " if number > 1 else "") + f"`{first[reason]}` ({reason})"
        for reason, number in Counter(skip.reason for skip in skipped).items()
    ]


_HEAD = """\
# Architectures

What `plop score` scores of each architecture that it is tested on, under which type, and what it leaves out and why.
Made by `python tests/support/architectures.py > docs/architectures.md` from small models (two layers, few experts) of
the real configuration classes. All families that transformers has, and what becomes of each, are in
[families.md](families.md); `plop score MODEL --list-modules` shows the same for any other model, without loading
weights.

A type is the last part of a module's path, extended to the left while two different places share it; places are paths
without their numbers. Hence T5's `encoder.block.layer.SelfAttention.q` and `decoder.block.layer.SelfAttention.q`, whose
encoder and decoder are scored apart, and `experts.down_proj` in DeepSeek-V3, which has dense `mlp.down_proj` too.

- **Fused experts** (3D parameters): a score for each expert, `…experts.down_proj[3]`, from the tokens routed to it. An
  expert that saw no token has none, and is counted among what is left out.
- **Encoder-decoders**: the encoder reads each text, and the decoder writes the same text, shifted right by its start
  token. Cross-attention's keys and values see the encoder's tokens, the rest of the decoder the decoder's.
- **Vision-language models**: texts run through the language model alone. `--include vision` is for a tower that takes
  text; one that takes pixels cannot be scored from texts, and plop says so.
- **Classifiers**: the head is not run. BERT's pooler, listed here, is given one token of each text: the pass finds that
  out, leaves it without a score, and says so."""


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    sys.stdout.write(document())
