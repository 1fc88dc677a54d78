"""Texts → token ids: through the chat template or not, cut at a length, the answers marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from plop_cli.errors import PlopError
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
class Tokens:
    """Token ids of each text, in input order, and which texts were cut at `max_length`.

    `answers` marks the tokens of answers, where those alone are scored; `refused` says of texts that were passed over
    why: they have no tokens.
    """

    ids: list[list[int]]
    cut: list[bool]
    answers: list[list[bool]] | None = None
    refused: dict[int, str] = field(default_factory=dict)

    def __add__(self, later: Tokens) -> Tokens:
        answers = None if self.answers is None else self.answers + (later.answers or [])
        return Tokens(self.ids + later.ids, self.cut + later.cut, answers, self.refused | later.refused)

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


@contextmanager
def tokenized(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    first: int,
    *,
    max_length: int,
    chat: bool,
    on: On = "all",
    skip_bad: bool = False,
) -> Iterator[Callable[[int], Tokens]]:
    """Inside, gives the tokens of at least the texts before an index: of the `first` at once, while a thread makes
    those of the others.

    Texts go through the tokenizer with its own special tokens; conversations, and with `chat` all texts, through its
    template. With `on="answers"` the tokens of answers are marked: of conversations what the assistant says, its end of
    turn included, of a prompt and its completion the completion.

    Raises PlopError where a chat template is needed and the tokenizer has none, RefusedText where the template refuses
    a conversation, or a text has no answer to mark; with `skip_bad` such texts get no tokens instead. Of texts after
    the `first` that is raised when their tokens are asked for, as where no text has any.
    """
    says(f"tokenizing {len(texts)} texts")
    written = _written(tokenizer, texts, chat, on)
    if on == "answers" and not getattr(tokenizer, "is_fast", False):
        raise PlopError("the tokenizer does not tell where tokens are in a text; leave out --on answers")
    encoded = partial(_encoded, tokenizer, max_length=max_length, on=on, skip_bad=skip_bad)
    with ThreadPoolExecutor(1) as aside:
        begun, others = encoded(written[:first], 0), aside.submit(encoded, written[first:], first)
        every = cache(lambda: _scorable(begun + others.result()))
        yield lambda end: begun if end <= first < len(texts) and begun.number(end) else every()


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], **how: Any) -> Tokens:
    """The tokens of all texts, by `tokenized`, which has what to tell it."""
    with tokenized(tokenizer, texts, len(texts), **how) as tokens_of:
        return tokens_of(len(texts))


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    written: Sequence[_Written],
    start: int,
    *,
    max_length: int,
    on: On,
    skip_bad: bool,
) -> Tokens:
    """The tokens of some texts; `start` is the first one's index among all."""
    tokens = Tokens([], [], [] if on == "answers" else None)
    with _same_truncation(tokenizer):
        for index, (text, spans, special, error) in enumerate(written, start):
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
    return tokens


def _scorable(tokens: Tokens) -> Tokens:
    if tokens.refused and len(tokens.refused) == len(tokens.ids):
        raise RefusedText(0, tokens.refused[0])
    if not tokens.number(len(tokens.ids)):
        raise PlopError("no text holds a token to score; give texts that are not empty")
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


class _Written(NamedTuple):
    """A text as it is tokenized, where its answers are, whether it lacks special tokens, and why it is refused."""

    text: str
    answers: Sequence[tuple[int, int]]
    lacks_special: bool
    refused: str


def _written(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], chat: bool, on: On) -> list[_Written]:
    """All texts at once: a template is run in a process of its own."""
    turns = {i: _turns(text) for i, text in enumerate(texts) if chat or not isinstance(text, str)}
    rendered = render(tokenizer, list(turns.values()), answers=on == "answers") if turns else []
    by_chat = dict(zip(turns, rendered, strict=True))
    written: list[_Written] = []
    for index, text in enumerate(texts):
        if made := by_chat.get(index):
            refused = f"the chat template refuses it ({made.error})" if made.error else ""
            written.append(_Written(made.text, made.answers, False, refused))
        else:
            answer = [(len(text) - len(text.completion), len(text))] if isinstance(text, Answered) else []
            written.append(_Written(str(text), answer, True, ""))
    return written


def _turns(text: Text) -> list[Message]:
    """A conversation: of a prompt and its completion both turns, of any other text the user's."""
    if not isinstance(text, str):
        return text
    if isinstance(text, Answered):
        return [{"role": "user", "content": text.prompt}, {"role": "assistant", "content": text.completion}]
    return [{"role": "user", "content": text}]
