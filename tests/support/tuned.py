"""Two checkpoints of a small Llama that is really fine-tuned: seeded, on the CPU, in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from real_model import sample_texts
from small_models import byte_tokenizer

STEPS = (2, 4)


def fine_tune(folder: Path) -> list[Path]:
    """Train on two kinds of texts and save checkpoint-2 and checkpoint-4 in `folder`, as a trainer would."""
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    tokenizer = byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    texts = tokenizer(sample_texts("math", 8) + sample_texts("code", 8), return_tensors="pt", padding=True)
    batch = {name: values[:, :128] for name, values in texts.items() if name in ("input_ids", "attention_mask")}
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    saved = []
    for step in range(1, STEPS[-1] + 1):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in STEPS:
            saved.append(folder / f"checkpoint-{step}")
            model.save_pretrained(saved[-1])
            tokenizer.save_pretrained(saved[-1])
    return saved
