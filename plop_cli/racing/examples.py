"""What a race trains and tests on: texts in tokens, and which of the tokens count.

    data = draw(tokenizer, read("train.jsonl"), setting)
    data.train, data.validation, data.test, data.notes

The loss is on the answer where a text has one (question and answer, what the assistant says), else on all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from plop_cli.errors import PlopError
from plop_cli.racing.sources import Source, answers_of, prompt_of
from plop_cli.texts.text import Answered, Text
from plop_cli.words import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VALIDATED = 64
"""Examples, at most, that learning rates are tuned on: as many are drawn from a tenth of the training examples."""


@dataclass(frozen=True, slots=True)
class Example:
    """A text in tokens. `counts` says of each whether its loss counts: the first never can."""

    ids: tuple[int, ...]
    counts: tuple[bool, ...]

    @classmethod
    def pair(cls, prompt: Sequence[int], answer: Sequence[int]) -> Example:
        """A prompt and its answer, which alone counts."""
        return cls((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))

    def cut(self, length: int) -> Example:
        """Its first tokens."""
        return Example(self.ids[:length], self.counts[:length])

    @property
    def losses(self) -> int:
        """How many tokens count."""
        return sum(self.counts[1:])


@dataclass(frozen=True)
class Data:
    """The examples of a race. `prompts` are the texts to score; `notes` say what a user would not guess."""

    name: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    prompts: tuple[Text, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def hash(self) -> str:
        """sha256 over all tokens, and which of them count."""
        parts = [[[e.ids, e.counts] for e in part] for part in (self.train, self.validation, self.test)]
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def encode(tokenizer: PreTrainedTokenizerBase, text: Text) -> Example:
    """A text in tokens, with the end of the text where it is not a conversation.

    Raises PlopError for a conversation where the tokenizer has no chat template, or one that does not only append.
    """
    end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    if isinstance(text, Answered):
        prompt = list(tokenizer(text.removesuffix(text.completion))["input_ids"])
        while prompt and prompt[-1:] == end:
            prompt.pop()
        return Example.pair(prompt, [*tokenizer(text.completion, add_special_tokens=False)["input_ids"], *end])
    if isinstance(text, str):
        ids = list(tokenizer(text)["input_ids"])
        ids += end if ids[-1:] != end else []
        return Example(tuple(ids), (True,) * len(ids))
    return _conversation(tokenizer, text)


def _conversation(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]]) -> Example:
    """Its answers are what the template adds for the turns of the assistant, with what closes them."""
    if not getattr(tokenizer, "chat_template", None):
        raise PlopError("the tokenizer has no chat template, and these are conversations; give questions and answers")

    def written(until: int, **options: Any) -> str:
        text: str = tokenizer.apply_chat_template(turns[:until], tokenize=False, **options)
        return text

    whole = written(len(turns))
    ids: list[int] = []
    counts: list[bool] = []
    done = ""
    for index in answers_of(turns):
        before, after = written(index, add_generation_prompt=True), written(index + 1)
        if not (before.startswith(done) and after.startswith(before) and whole.startswith(after)):
            raise PlopError("the chat template rewrites earlier turns, so answers cannot be told; give single answers")
        for part, answer in ((before.removeprefix(done), False), (after.removeprefix(before), True)):
            tokens = tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
            ids += tokens
            counts += [answer] * len(tokens)
        done = after
    return Example(tuple(ids), tuple(counts))


def draw(
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    test: Source | None = None,
    *,
    longest: int = 512,
    tested: int = 200,
    seed: int = 0,
) -> Data:
    """Examples for training, for tuning and for testing, no example in two of them.

    Args:
        test: where the test examples are drawn from; by default from a seeded tenth of `source`.
        longest: tokens of an example; longer ones are cut, and left out where nothing of the answer remains.
        tested: test examples at most.

    Raises PlopError where too few are left.
    """
    notes = [f"{source.name}: {counted(len(source.texts), 'example')} ({source.said})" if source.said else ""]
    own, texts = _encoded(tokenizer, source, longest, notes)
    lost = len(source.texts) - len(own)
    order = Random(seed).sample(range(len(own)), len(own))
    tenth = max(2, len(own) // 10)
    if test is None:
        held, order = [own[index] for index in order[:tenth]], order[tenth:]
        notes.append(f"a tenth of them is held out for testing ({counted(tenth, 'example')})")
    else:
        held, _ = _encoded(tokenizer, test, longest, notes)
        lost += len(test.texts) - len(held)
        held = Random(seed).sample(held, len(held))
    held = list(dict.fromkeys(held))[:tested]
    both = {own[index] for index in order} & set(held)
    order = [index for index in order if own[index] not in both]
    if both:
        notes.append(f"{counted(len(both), 'test example')} stood in the training data too, and left it")
    tuned = max(1, min(VALIDATED, len(order) // 10))
    validation = [own[index] for index in order[:tuned]]
    train = [index for index in order[tuned:] if own[index] not in set(validation)]
    if len(held) < 2 or not train:
        what = f"{counted(len(train), 'training example')} and {counted(len(held), 'test example')}"
        same = f" ({counted(len(both), 'example')} in both)" if both else ""
        cut = f" ({counted(lost, 'example')} without an answer within {longest} tokens)" if lost else ""
        remedy = "give a longer --max-length, or more that differ" if lost else "give more that differ"
        raise PlopError(f"{source.name}: {what} are too few to race on{same}{cut}; {remedy}")
    return Data(
        source.name,
        tuple(own[index] for index in train),
        tuple(validation),
        tuple(held),
        tuple(prompt_of(texts[index]) for index in train),
        tuple(filter(None, notes)),
    )


def _encoded(
    tokenizer: PreTrainedTokenizerBase, source: Source, longest: int, notes: list[str]
) -> tuple[list[Example], list[Text]]:
    """The examples with something to learn in them, and their texts."""
    found: list[tuple[Example, Text]] = []
    cut = 0
    for text in source.texts:
        example = encode(tokenizer, text)
        if (short := example.cut(longest)).losses:
            found.append((short, text))
            cut += len(example.ids) > longest
    if cut:
        notes.append(f"{source.name}: {cut} are cut to {longest} tokens")
    if lost := len(source.texts) - len(found) + source.empty:
        notes.append(f"{source.name}: {lost} are left out, in which no answer stands, or none within {longest} tokens")
    return [example for example, _ in found], [text for _, text in found]
