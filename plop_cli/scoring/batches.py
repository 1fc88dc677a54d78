"""Token ids → batches: padded, masked, sorted by length, under a budget of tokens.

Padding always goes on the right, whatever side the tokenizer prefers: positions then start at 0 for every text, so
a score cannot depend on who shares its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plop_cli.models.memory import available_memory
from plop_cli.processes import size


@dataclass(frozen=True)
class Batch:
    """`rows`: which samples these are, (batch,); `input_ids`, `mask` (True on real tokens) and `counted` (True on those
    that are scored): (batch, length)."""

    rows: Tensor
    input_ids: Tensor
    mask: Tensor
    counted: Tensor

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.rows, self.input_ids, self.mask, self.counted

    def to(self, device: torch.device) -> Batch:
        """On `device`; to a GPU through pinned memory, so that the host does not wait for it."""
        if device.type == "cuda":
            return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in self._tensors))
        return Batch(*(tensor.to(device) for tensor in self._tensors))

    def halves(self) -> tuple[Batch, Batch]:
        """The first and the second half of the rows, as wide as they were."""
        parts = [tensor.tensor_split(2) for tensor in self._tensors]
        return Batch(*(part[0] for part in parts)), Batch(*(part[1] for part in parts))


def batches(
    ids: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    pad: int = 0,
    counted: Sequence[Sequence[bool]] | None = None,
) -> Iterator[Batch]:
    """Batches of similar lengths with at most `batch_tokens` tokens each, padding included; longest last.

    A text longer than the budget is a batch of its own. Texts without tokens are in no batch. No batch is as long as it
    is wide: the shape of what a module is given then tells which axis is which. `counted` marks the tokens that are
    scored, of each text; all, where it is None.
    """
    rows: list[int] = []
    for row in sorted((row for row, tokens in enumerate(ids) if tokens), key=lambda row: (len(ids[row]), row)):
        if rows and (len(rows) + 1) * len(ids[row]) > batch_tokens:
            yield from _oblong(_padded(ids, rows, pad, counted))
            rows = []
        rows.append(row)
    if rows:
        yield from _oblong(_padded(ids, rows, pad, counted))


def _oblong(batch: Batch) -> Sequence[Batch]:
    rows, length = batch.input_ids.shape
    return batch.halves() if rows == length > 1 else (batch,)


def _padded(ids: Sequence[Sequence[int]], rows: list[int], pad: int, counted: Sequence[Sequence[bool]] | None) -> Batch:
    lengths = torch.tensor([len(ids[row]) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    input_ids = torch.full(mask.shape, pad)
    input_ids[mask] = torch.tensor([token for row in rows for token in ids[row]])
    scored = mask
    if counted is not None:
        scored = torch.zeros_like(mask)
        scored[mask] = torch.tensor([mark for row in rows for mark in counted[row]])
    return Batch(torch.tensor(rows), input_ids, mask, scored)


_SHARE = 0.25
"""Of the free memory, what one batch may take beside the weights."""


def default_budget(device: torch.device, *, width: int = 0) -> int:
    """Tokens per forward: what fits a CPU's caches, or what fills an accelerator.

    More where each forward fetches weights from elsewhere: as many as the share of main memory of each process allows,
    so that each weight is fetched once; a power of two, since the last digits of a score depend on the batches. Then
    `width` is how many numbers a layer computes for a token, else 0.
    """
    if device.type != "cpu":
        return 65536 if width else 16384
    fitting = int(available_memory() * _SHARE / size()) // (4 * width) if width else 512
    return max(512, min(65536, 1 << max(0, fitting.bit_length() - 1)))
