"""Texts → token batches: truncation, masks, length-sorted under a token budget.

Padding always goes on the right, whatever side the tokenizer prefers: positions then start at 0 for every text, so
a score cannot depend on who shares its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from plop_cli.errors import PlopError
from plop_cli.models.memory import available_memory
from plop_cli.processes import size
from plop_cli.progress import says
from plop_cli.scoring.chat import render
from plop_cli.texts.text import Answered, Message, Text

On = Literal["all", "answers"]
"""Which tokens are scored."""


class RefusedText(PlopError):
    """A text that cannot be scored as it was asked for: which one, and why."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"text {index + 1}: {reason}")
        self.index, self.reason = index, reason


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


@dataclass(frozen=True)
class Tokens:
    """Token ids of each text, in input order, and which texts were cut at `max_length`.

    `answers` marks the tokens of answers, where those alone are scored; `refused` says of texts that were passed over
    why: they have no tokens.
    """

    ids: list[list[int]]
    cut: list[bool]
    answers: list[list[bool]] | None = None
    refused: dict[int, str] = field(default_factory=dict)

    def number(self, end: int) -> int:
        """How many tokens of the first `end` texts are scored."""
        return sum(map(sum, self.answers[:end])) if self.answers else sum(map(len, self.ids[:end]))

    def warnings(self, end: int) -> Iterator[str]:
        """What a user should look at of the first `end` texts, a sentence each."""
        if passed := [index for index in self.refused if index < end]:
            yield f"{len(passed)} of {end} texts were passed over (--skip-bad); the first: {self.refused[passed[0]]}"
        if self.answers:
            idle = sum(not any(marks) and bool(ids) for marks, ids in zip(self.answers[:end], self.ids, strict=False))
            if idle:
                yield f"{idle} of {end} texts have no answer among their first tokens (--max-length)"


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    max_length: int,
    chat: bool,
    on: On = "all",
    skip_bad: bool = False,
) -> Tokens:
    """Tokenize with the tokenizer's own special tokens; conversations, and with `chat` all texts, through its template.

    With `on="answers"` the tokens of answers are marked: of conversations what the assistant says, its end of turn
    included, of a prompt and its completion the completion.

    Raises PlopError where a chat template is needed and the tokenizer has none, RefusedText where the template refuses
    a conversation, or a text has no answer to mark; with `skip_bad` such texts get no tokens instead.
    """
    says(f"tokenizing {len(texts)} texts")
    written = _written(tokenizer, texts, chat, on)
    if on == "answers" and not getattr(tokenizer, "is_fast", False):
        raise PlopError("the tokenizer does not tell where tokens are in a text; leave out --on answers")
    tokens = Tokens([], [], [] if on == "answers" else None)
    with _same_truncation(tokenizer):
        for index, (text, spans, special, error) in enumerate(written):
            if on == "answers" and not error and not spans:
                error = "no answer is known apart in it; --on answers takes conversations, or prompts with completions"
            if error:
                if not skip_bad:
                    raise RefusedText(index, error)
                tokens.refused[index] = error
            # A template writes the special tokens itself. One token more than fits tells a cut text from an exact fit.
            options = {"add_special_tokens": special, "truncation": True, "return_offsets_mapping": on == "answers"}
            encoded = tokenizer("" if error else text, max_length=max_length + 1, **options)
            if cut := len(encoded["input_ids"]) > max_length:
                encoded = tokenizer(text, max_length=max_length, **options)
            tokens.cut.append(cut)
            tokens.ids.append([] if error else encoded["input_ids"])
            if tokens.answers is not None:
                places = [] if error else encoded["offset_mapping"]
                tokens.answers.append([_begins_in(place, spans) for place in places])
    if tokens.refused and len(tokens.refused) == len(texts):
        raise RefusedText(0, tokens.refused[0])
    return tokens


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


def _begins_in(place: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a token that is not empty begins in one of the spans."""
    return place[0] < place[1] and any(start <= place[0] < end for start, end in spans)


def _written(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], chat: bool, on: On
) -> list[tuple[str, Sequence[tuple[int, int]], bool, str]]:
    """Each text as it is tokenized, where its answers are, whether it lacks special tokens, and why it is refused."""
    turns = {i: _turns(text) for i, text in enumerate(texts) if chat or not isinstance(text, str)}
    rendered = render(tokenizer, list(turns.values()), answers=on == "answers") if turns else []
    by_chat = dict(zip(turns, rendered, strict=True))
    written: list[tuple[str, Sequence[tuple[int, int]], bool, str]] = []
    for index, text in enumerate(texts):
        if made := by_chat.get(index):
            refused = f"the chat template refuses it ({made.error})" if made.error else ""
            written.append((made.text, made.answers, False, refused))
        else:
            answer = [(len(text) - len(text.completion), len(text))] if isinstance(text, Answered) else []
            written.append((str(text), answer, True, ""))
    return written


def _turns(text: Text) -> list[Message]:
    """A conversation: of a prompt and its completion both turns, of any other text the user's."""
    if not isinstance(text, str):
        return text
    if isinstance(text, Answered):
        return [{"role": "user", "content": text.prompt}, {"role": "assistant", "content": text.completion}]
    return [{"role": "user", "content": text}]


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
