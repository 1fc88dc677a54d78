"""Texts → token batches: chat template, truncation, masks, length-sorted under a token budget.

Padding always goes on the right, whatever side the tokenizer prefers: positions then start at 0 for every text, so
a score cannot depend on who shares its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from plop_cli.errors import PlopError
from plop_cli.texts.text import Text


@dataclass(frozen=True)
class Batch:
    """`rows`: which samples these are, (batch,); `input_ids` and `mask` (True on real tokens): (batch, length)."""

    rows: Tensor
    input_ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Batch:
        """On `device`; to a GPU through pinned memory, so that the host does not wait for it."""
        tensors = (self.rows, self.input_ids, self.mask)
        if device.type == "cuda":
            return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors))
        return Batch(*(tensor.to(device) for tensor in tensors))

    def halves(self) -> tuple[Batch, Batch]:
        """The first and the second half of the rows, as wide as they were."""
        parts = [tensor.tensor_split(2) for tensor in (self.rows, self.input_ids, self.mask)]
        return Batch(*(part[0] for part in parts)), Batch(*(part[1] for part in parts))


@dataclass(frozen=True)
class Tokens:
    """Token ids of each text, in input order, and which texts were cut at `max_length`."""

    ids: list[list[int]]
    cut: list[bool]


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], *, max_length: int, chat: bool) -> Tokens:
    """Tokenize with the tokenizer's own special tokens; conversations, and with `chat` all texts, through its template.

    Raises PlopError where a chat template is needed and the tokenizer has none.
    """
    plain = [_render(tokenizer, text) if chat or not isinstance(text, str) else text for text in texts]
    templated = [chat or not isinstance(text, str) for text in texts]
    ids: list[list[int]] = []
    cut: list[bool] = []
    with _same_truncation(tokenizer):
        for text, special in zip(plain, templated, strict=True):
            # A template writes the special tokens itself. One token more than fits tells a cut text from an exact fit.
            options = {"add_special_tokens": not special, "truncation": True}
            long = tokenizer(text, max_length=max_length + 1, **options)["input_ids"]
            cut.append(len(long) > max_length)
            ids.append(tokenizer(text, max_length=max_length, **options)["input_ids"] if cut[-1] else long)
    return Tokens(ids, cut)


@contextmanager
def _same_truncation(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """A fast tokenizer keeps what it last cut and padded to, and save_pretrained writes that: it is put back."""
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        yield
        return
    truncation, padding = backend.truncation, backend.padding
    try:
        yield
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        backend.no_padding() if padding is None else backend.enable_padding(**padding)


def batches(ids: Sequence[Sequence[int]], *, batch_tokens: int, pad: int = 0) -> Iterator[Batch]:
    """Batches of similar lengths with at most `batch_tokens` tokens each, padding included; longest last.

    A text longer than the budget is a batch of its own. Texts without tokens are in no batch.
    """
    rows: list[int] = []
    for row in sorted((row for row, tokens in enumerate(ids) if tokens), key=lambda row: (len(ids[row]), row)):
        if rows and (len(rows) + 1) * len(ids[row]) > batch_tokens:
            yield _padded(ids, rows, pad)
            rows = []
        rows.append(row)
    if rows:
        yield _padded(ids, rows, pad)


def _padded(ids: Sequence[Sequence[int]], rows: list[int], pad: int) -> Batch:
    lengths = torch.tensor([len(ids[row]) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    input_ids = torch.full(mask.shape, pad)
    input_ids[mask] = torch.tensor([token for row in rows for token in ids[row]])
    return Batch(torch.tensor(rows), input_ids, mask)


def _render(tokenizer: PreTrainedTokenizerBase, text: Text) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise PlopError(
            "the tokenizer has no chat template; leave out --chat, or turn the messages into text with --template"
        )
    turns = [{"role": "user", "content": text}] if isinstance(text, str) else text
    rendered: str = tokenizer.apply_chat_template(turns, tokenize=False)
    return rendered


def default_budget(device: torch.device, offloaded: bool = False) -> int:
    """Tokens per forward: what fits a CPU's caches, or what fills an accelerator.

    More where each forward fetches weights from elsewhere, which then takes a small part of the time.
    """
    if device.type == "cpu":
        return 4096 if offloaded else 512
    return 65536 if offloaded else 16384
