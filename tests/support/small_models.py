"""Small models that need no files: real architectures with random weights, and one whose every z the test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
)


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def byte_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A token per byte of the text, and `<pad>`, which is id 256."""
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", **options)


def gpt2() -> Any:
    """Conv1D layers, all of them with biases."""
    config = GPT2Config(
        vocab_size=257, n_positions=256, n_embd=96, n_layer=3, n_head=4, bos_token_id=None, eos_token_id=None
    )
    return uneven(AutoModelForCausalLM, config)


def qwen2(*, hidden_size: int = 96, intermediate_size: int = 224) -> Any:
    """Biases on q, k and v alone; fewer key than query heads."""
    config = Qwen2Config(
        vocab_size=257,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    return uneven(AutoModelForCausalLM, config)


def bert() -> Any:
    """An encoder: each token sees those after it too, so padding would be seen."""
    config = BertConfig(
        vocab_size=257,
        hidden_size=96,
        intermediate_size=224,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
    )
    return uneven(AutoModelForMaskedLM, config)


@torch.no_grad()
def uneven(kind: Any, config: Any) -> Any:
    """Singular values that fall off and biases that are not zero, so that NFN is not 1 everywhere, as it is at init."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = kind.from_config(config)
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if name.endswith("bias"):
                    parameter.copy_(torch.randn_like(parameter) / 2)
                elif parameter.ndim > 1 and not isinstance(module, nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                    U, S, V = torch.linalg.svd(parameter, full_matrices=False)
                    parameter.copy_(U * torch.arange(1, S.shape[-1] + 1).pow(-0.4) @ V)
    return model.eval()


class Toy(nn.Module):
    """One linear map whose input is whatever the test wants: token i comes in as row i of `z`.

    score(Toy(W, z), Toy.tokenizer(len(z)), ["0 3 1"]) scores W on rows 0, 3 and 1. Padding comes in as NaN.
    """

    def __init__(self, W: Tensor, z: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        rows = torch.cat([z, torch.full_like(z[:1], torch.nan)])
        self.embedding = nn.Embedding.from_pretrained(rows)
        self.linear = nn.Linear(W.shape[1], W.shape[0], bias=bias is not None, dtype=W.dtype)
        self.linear.weight.data = W
        if bias is not None:
            self.linear.bias.data = bias

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        with torch.backends.mkldnn.flags(enabled=False):  # on AMX a NaN reaches other rows (uxlfoundation/oneDNN#5717)
            return self.linear(self.embedding(input_ids))

    @staticmethod
    def tokenizer(rows: int) -> PreTrainedTokenizerFast:
        """Numbers between spaces; the padding token is the row after the last."""
        vocabulary = {**{str(row): row for row in range(rows)}, "<pad>": rows}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def numbers(rows: Sequence[int]) -> str:
    """The text that `Toy.tokenizer` turns into these rows."""
    return " ".join(map(str, rows))
