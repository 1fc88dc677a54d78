"""Every configuration that transformers has for a causal, a masked or a sequence-to-sequence language model.

    python tests/support/walk.py --results walk.jsonl                       # walks on from where it stopped; hours no, minutes yes
    python tests/support/walk.py --results walk.jsonl --page > docs/families.md

Each becomes a small model with random weights (`shrunk`), is scored, held against the brute-force reading of
Definition 1, and adapted by real PEFT. What comes of that is a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import nn
from transformers.models.auto import modeling_auto as auto

import brute_force
from plop_cli import PlopError, recommend, score
from plop_cli.network.modules import linear_modules
from plop_cli.placement.refused import refused
from small_models import byte_tokenizer, uneven

KINDS = {
    "causal": (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, hf.AutoModelForCausalLM),
    "masked": (auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, hf.AutoModelForMaskedLM),
    "seq2seq": (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, hf.AutoModelForSeq2SeqLM),
}
TEXTS = ["Half of 12 is 6, and half of 6 is 3.", "Why?", "A train leaves at noon; when does it arrive?"]
MOST = 20_000_000
"""Weights of a small model."""

LIMIT = 90
"""Seconds for one family."""

# What makes a model small, by the name of the setting; the first pattern that fits counts.
SIZES: tuple[tuple[str, int], ...] = (
    (r"vocab_size", 257),
    (r"pad_token_id|decoder_start_token_id", 256),
    (r"(bos|forced_bos|cls)_token_id", 1),
    (r"(eos|sep)_token_id", 2),
    (r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length|seq_length|max_seq_length)", 640),
    (r"(encoder|decoder)_layers|(num|n)_(hidden_)?layers?|n_layer|num_(encoder|decoder)_layers|depth|num_blocks", 2),
    (r"num_key_value_heads|num_kv_heads|n_kv_heads|multi_query_group_num|.*num_key_heads|num_query_groups", 2),
    (r"(.*_)?num_attention_heads|n_heads?|num_heads|.*_attention_heads|.*num_value_heads|attention_heads", 4),
    (r"head_dim|qk_nope_head_dim|v_head_dim|d_kv|.*_head_dim|attention_head_size|head_size", 16),
    (r"qk_rope_head_dim|rotary_dim", 8),
    (r"(q|kv|o)_lora_rank|.*_low_rank_dim", 16),
    (r"(n_routed_experts|num_experts|num_local_experts|moe_num_experts|n_experts|num_sparse_experts)", 4),
    (r"(num_experts_per_tok|moe_topk|moe_k|top_k_experts|num_selected_experts|moe_top_k|router_top_k)", 2),
    (r"(n_group|topk_group|n_shared_experts|num_shared_experts|first_k_dense_replace|moe_layer_start_index)", 1),
    (r".*(intermediate|ffn|inner|mlp|d_ff|feed_forward|feedforward).*(size|dim)|d_ff|ffn_dim|n_inner|d_inner", 96),
    (r"hidden_size|d_model|n_embd|dim|embed_dim|emb_dim|embedding_size|d_embed|word_embed_proj_dim|hidden_dim", 64),
    (r"output_hidden_size|width|block_size_hidden", 64),
    (r"(mamba_|ssm_)?(d_)?state(_size)?|mamba_d_state", 16),
    (r"mamba_(n|num)_heads", 4),
    (r"mamba_d_head|mamba_head_dim|mamba_headdim", 32),
    (r"mamba_d_ssm", 128),
    (r"(mamba_)?n_?groups", 1),
    (r"cross_attention_hidden_size", 64),
    (r"num_kv_shared_layers", 0),
    (r"image_size", 28),
    (r"patch_size", 14),
)
SKIPPED = re.compile(r".*(dropout|norm|eps|rope|theta|std|scal|coef|alpha|bias|cache).*")


def families() -> Iterator[tuple[str, str]]:
    """Every kind and model type."""
    for kind, (names, _) in KINDS.items():
        yield from ((kind, model_type) for model_type in sorted(names))


def shrunk(config: Any) -> Any:
    """The configuration with small numbers in place of its own, also in the configurations inside of it."""
    for name, value in list(vars(config).items()):
        if isinstance(value, hf.PretrainedConfig):
            shrunk(value)
        elif not isinstance(value, int | float) or isinstance(value, bool) or SKIPPED.fullmatch(name):
            continue
        elif (size := next((size for pattern, size in SIZES if re.fullmatch(pattern, name)), None)) is not None:
            setattr(config, name, size)
    if isinstance(vars(config).get("qk_rope_head_dim"), int):  # latent attention: a head is two parts
        _set(config, head_dim=8, qk_head_dim=24, num_key_value_heads=4)
    elif vars(config).get("head_dim", 0) is None:
        _set(config, head_dim=16)
    if config.is_encoder_decoder:
        _set(config, decoder_start_token_id=256)
    _short(config)
    _set(config, **FAMILIES.get(config.model_type, {}))
    return config


def _set(config: Any, **values: Any) -> None:
    for name, value in values.items():
        with _ignored():
            setattr(config, name, value)


FAMILIES: dict[str, dict[str, Any]] = {
    "mamba2": {"head_dim": 32, "num_heads": 4},
    "zamba2": {"n_mamba_heads": 4, "mamba_headdim": 32, "mamba_ngroups": 1, "attention_head_dim": 32},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds_dim": (32, 32),
        "axial_pos_shape": (16, 40),
        "attn_layers": ["local", "lsh"],
    },
    "nemotron": {"num_key_value_heads": 2, "head_dim": 16},
    "xlnet": {"d_head": 16},
    "rwkv": {"attention_hidden_size": 64},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "ministral": {"head_dim": 16},
    "esm": {"vocab_size": 257, "position_embedding_type": "rotary"},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "dots1": {"layer_types": ["full_attention"] * 2},
    "xlstm": {"embedding_dim": 64, "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "num_blocks": 2},
    "minicpm3": {"qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "head_dim": 8},
}
"""What the numbers of SIZES do not suit."""


def _short(config: Any) -> None:
    """As many blocks as there are kinds of them, two at least."""
    for name in ("layer_types", "layers_block_type", "block_types", "mlp_layer_types", "attention_layers"):
        kinds = getattr(config, name, None)
        if isinstance(kinds, list | tuple) and kinds and all(isinstance(kind, str) for kind in kinds):
            few = list(dict.fromkeys(kinds))
            few = few * 2 if len(few) == 1 else few
            with _ignored():
                setattr(config, name, few)
                for count in ("num_hidden_layers", "n_layers", "num_layers"):
                    if isinstance(getattr(config, count, None), int):
                        setattr(config, count, len(few))


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001  # a property without a setter, and the like
        return


def small(kind: str, model_type: str) -> Any:
    """A small model of that family with uneven random weights."""
    config = shrunk(hf.AutoConfig.for_model(model_type))
    with torch.device("meta"):
        weights = sum(p.numel() for p in KINDS[kind][1].from_config(config).parameters())
    if weights > MOST:
        raise ValueError(f"its small form still has {weights / 1e6:.0f} million weights")
    return uneven(KINDS[kind][1], config)


def walked(kind: str, model_type: str) -> dict[str, Any]:
    """What comes of one family: whether it was built, scored, agrees, and is adapted; what is left out, and why."""
    found: dict[str, Any] = {"kind": kind, "model_type": model_type}
    try:
        model = small(kind, model_type)
    except Exception as error:  # noqa: BLE001  # the small numbers do not suit it
        return found | {"outcome": "not built", "why": _line(error)}
    found["architecture"] = type(model).__name__
    try:
        scores = score(model, byte_tokenizer(), TEXTS)
    except PlopError as error:
        return found | {"outcome": "refused", "why": _line(error)}
    except Exception as error:  # noqa: BLE001
        return found | {"outcome": "crash", "why": f"{_line(error)} at {_place(error)}"}
    modules, skipped = linear_modules(model)
    found["types"] = sorted({module.type for module in modules})
    left = [s for s in scores.skipped if _is_a_loss(model, s)]
    silent = _silent(model, scores)
    found |= {
        "scored": len(scores.modules),
        "left_out": [f"{n} like {name}: {why}" for why, (n, name) in _by_reason(left).items()],
        "silent": silent,
    }
    found["difference"] = _difference(model, scores)
    found["peft"] = _peft(model, [module.type for module in modules])
    agrees = isinstance(found["difference"], float)
    whole = not left and not silent
    found["outcome"] = ("full" if whole else "partly") if agrees or found["difference"] is None else "differs"
    return found


FINE = ("vectors, no matrix", "an embedding looks", "the output head", "a head on top", "a router", "tower:", "saw no token")
FINE += ("beside the language model",)


def _is_a_loss(model: Any, skipped: Any) -> bool:
    """Whether what is left out is a linear map of the body that an adapter could go on."""
    return not any(known in skipped.reason for known in FINE)


def _by_reason(skipped: list[Any]) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for skip in skipped:
        number, name = found.get(skip.reason, (0, skip.name))
        found[skip.reason] = (number + 1, name)
    return found


def _silent(model: Any, scores: Any) -> list[str]:
    """Modules with weights that are neither scored nor said to be left out."""
    said = {skip.name.partition("[")[0] for skip in scores.skipped} | {m.name.partition("[")[0] for m in scores.modules}
    said |= {name.rpartition(".")[0] for name in said}
    return [name for name, module in model.named_modules() if list(module.parameters(recurse=False)) and name not in said]


def _difference(model: Any, scores: Any) -> float | str | None:
    """The largest relative difference to brute force; None where only experts are scored, which it does not all know."""
    names = [m.name for m in scores.modules if not m.name.endswith("]")]
    model.config.use_cache = False
    if not names:
        return None
    try:
        truth = brute_force.brute_force(model, byte_tokenizer(), TEXTS, names)
    except Exception as error:  # noqa: BLE001  # its plain forward does not suit every model
        return f"brute force: {_line(error)}"
    values = {m.name: (m.nfn, m.nfn_squared) for m in scores.modules}
    apart = [
        (abs(ours - theirs) / abs(theirs), name)
        for name, pair in zip(names, truth, strict=True)
        for ours, theirs in zip(values[name], pair, strict=True)
        if theirs == theirs and theirs
    ]
    worst, name = max(apart)
    W = model.get_submodule(name).weight
    return worst if worst < _within(min(W.shape)) else f"{worst:.1%} apart in {name} of {tuple(W.shape)}"


def _within(narrow: int) -> float:
    """1.5 %, as everywhere; more for what has few rows, whose ‖W u‖ varies too much for thousands of probes to say."""
    return max(0.015, 0.06 / narrow**0.5)


def _peft(model: Any, types: list[str]) -> str:
    """"ok", or what real PEFT does otherwise with every type that it does not refuse."""
    from peft.tuners.lora import LoraLayer

    left = set(refused(type(model).__name__, set(types)))
    wanted = sorted(set(types) - left)
    if not wanted:
        return "nothing left that PEFT adapts"
    try:
        placement = recommend(targets=wanted, rank=2, model=model)
        tuned = placement.apply(model)
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {_line(error)}"
    got = sum(p.numel() for name, p in tuned.named_parameters() if p.requires_grad and ".lora_" in name)
    layers = sum(isinstance(module, LoraLayer) for module in tuned.modules())
    if (layers, got) != (len(placement.matched_modules), placement.trainable_parameters):
        return f"{layers} adapters of {got:,} parameters, not {len(placement.matched_modules)} of {placement.trainable_parameters:,}"
    return "ok"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "plop_cli" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


class _TooLong(Exception):
    """The family took longer than its share."""


def _ring(*_: Any) -> None:
    raise _TooLong(f"longer than {LIMIT} s")


def walk(results: Path, only: str | None) -> None:
    """Walk on, a line for each family."""
    done = {(row["kind"], row["model_type"]) for row in read(results)} if results.exists() else set()
    signal.signal(signal.SIGALRM, _ring)
    for kind, model_type in families():
        if (kind, model_type) in done or (only and not re.search(only, model_type)):
            continue
        signal.alarm(LIMIT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = walked(kind, model_type)
        except BaseException as error:  # noqa: BLE001
            if isinstance(error, KeyboardInterrupt):
                raise
            row = {"kind": kind, "model_type": model_type, "outcome": "crash", "why": _line(error)}
        finally:
            signal.alarm(0)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read(results: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in results.read_text().splitlines()]


def main() -> None:
    """Walk, or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--only", help="model types that this regular expression finds")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        sys.stdout.write(document(read(given.results)))
        return
    torch.set_num_threads(1)
    hf.logging.set_verbosity_error()
    walk(given.results, given.only)


def document(rows: list[dict[str, Any]]) -> str:
    """docs/families.md."""
    return str(Counter(row["outcome"] for row in rows))


if __name__ == "__main__":
    main()
