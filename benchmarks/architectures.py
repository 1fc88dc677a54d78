"""What a score costs for each family, at about equal parameters, against a bare forward of the body: ratios.

    OMP_NUM_THREADS=1 python benchmarks/architectures.py [FAMILY ...] [--texts N] [--length L] [--repeats R]

The bare forward is given the very batches that score() makes, and runs no output head. For mixtures of experts it runs
the same experts implementation, unobserved; the default one of transformers is there to compare. Runs are interleaved;
each ratio is the median of those of single rounds. Seconds are the CPU's, which others blur less, in one thread, which
does not spin while it waits for another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from rich.console import Console
from rich.table import Table

from plop_cli import score
from plop_cli.models.memory import keep_freed
from plop_cli.network.experts import observable, observing
from plop_cli.network.forward import forward
from plop_cli.scoring.batches import batches, default_budget
from plop_cli.scoring.tokens import tokenize

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from small_models import byte_tokenizer

COMMON = {"vocab_size": 257, "num_hidden_layers": 2, "max_position_embeddings": 1024, "pad_token_id": 256}
COMMON |= {"bos_token_id": 1, "eos_token_id": 2}
WIDTHS = COMMON | {"hidden_size": 512, "intermediate_size": 1792, "num_attention_heads": 8}
GROUPED = WIDTHS | {"num_key_value_heads": 2}
LATENT = {"q_lora_rank": 128, "kv_lora_rank": 64, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
LM, MASKED, SEQ2SEQ = hf.AutoModelForCausalLM, hf.AutoModelForMaskedLM, hf.AutoModelForSeq2SeqLM

FAMILIES: dict[str, tuple[Any, Callable[[], Any]]] = {
    "Llama": (LM, lambda: hf.LlamaConfig(**GROUPED)),
    "Phi-3": (LM, lambda: hf.Phi3Config(**GROUPED)),
    "GPT-2": (LM, lambda: hf.GPT2Config(**COMMON, n_embd=512, n_layer=2, n_head=8, n_positions=1024)),
    "BERT": (MASKED, lambda: hf.BertConfig(**WIDTHS | {"intermediate_size": 2048})),
    "T5": (
        SEQ2SEQ,
        lambda: hf.T5Config(
            vocab_size=257, d_model=384, d_ff=1536, d_kv=64, num_heads=6, num_layers=2, decoder_start_token_id=256
        ),
    ),
    "Mamba-2": (LM, lambda: hf.Mamba2Config(**COMMON, hidden_size=768, num_heads=24, state_size=64, n_groups=1)),
    "Mixtral": (LM, lambda: hf.MixtralConfig(**GROUPED | {"intermediate_size": 448}, num_local_experts=4)),
    "Qwen3-MoE": (
        LM,
        lambda: hf.Qwen3MoeConfig(
            **GROUPED, head_dim=64, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=128
        ),
    ),
    "gpt-oss": (
        LM,
        lambda: hf.GptOssConfig(
            **GROUPED | {"intermediate_size": 256}, num_local_experts=8, head_dim=64, rope_parameters=ROPE
        ),
    ),
    "DeepSeek-V3": (
        LM,
        lambda: hf.DeepseekV3Config(
            **WIDTHS,
            **LATENT,
            num_key_value_heads=8,
            n_routed_experts=16,
            num_experts_per_tok=4,
            n_group=4,
            topk_group=2,
            moe_intermediate_size=128,
            first_k_dense_replace=1,
        ),
    ),
}


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def contestants(model: Any, texts: list[str]) -> dict[str, Callable[[], object]]:
    """score() and what it is compared with, over the same texts."""
    tokenizer, run = byte_tokenizer(), forward(model)
    ids = tokenize(tokenizer, texts, max_length=1024, chat=False).ids
    given = list(batches(ids, batch_tokens=default_budget(torch.device("cpu")), pad=256))
    unobserved = dict.fromkeys(filter(observable, model.modules()))

    @torch.no_grad()
    def body() -> None:
        for batch in given:
            run(batch.input_ids, batch.mask)

    def same_experts() -> None:
        with observing(unobserved):
            body()

    runs: dict[str, Callable[[], object]] = {"score": lambda: score(model, tokenizer, texts, max_length=1024)}
    return runs | ({"same experts": same_experts} if unobserved else {}) | {"body": body}


def ratios(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """How long score takes, in units of each of the others."""
    runs["score"]()  # warms up
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(repeats)]
    return {name: statistics.median(r["score"] / r[name] for r in rounds) for name in runs if name != "score"}


def make(family: str) -> Any:
    torch.manual_seed(0)
    kind, config = FAMILIES[family]
    return kind.from_config(config()).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--length", type=int, default=128, help="tokens of each text")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    keep_freed()  # for all contestants, as the command does
    hf.logging.set_verbosity_error()
    texts = [f"{i:04} " + "Half of 12 is 6. " * asked.length for i in range(asked.texts)]
    table = Table(title=f"score() against a bare forward, {asked.texts} texts of {asked.length} tokens")
    for column in ("family", "parameters", "body", "bar", "same experts", "bar"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for family in asked.families:
        model = make(family)
        found = ratios(contestants(model, [text[: asked.length] for text in texts]), asked.repeats)
        same = found.get("same experts")
        bars = ("", f"{same:.3f}", "≤ 1.25") if same else ("≤ 1.10", "", "")
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        table.add_row(family, f"{size:.1f} M", f"{found['body']:.3f}", *bars)
    Console().print(table)


if __name__ == "__main__":
    main()
