"""Texts after a decision's first look are tokenized while that one runs."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from plop_cli import score
from plop_cli.method.choice import Rule
from plop_cli.scoring.tokens import RefusedText, tokenize, tokenized
from plop_cli.texts.text import Conversation, Message
from small_models import byte_tokenizer, qwen2

TEXTS = [f"text number {number}" for number in range(20)]
HOW: dict[str, Any] = {"max_length": 32, "chat": False}


@pytest.fixture
def held() -> Iterator[tuple[Any, Event]]:
    """A tokenizer that takes later texts only once it is let, and what lets it."""
    let, tokenizer = Event(), byte_tokenizer()
    base = type(tokenizer)

    class Held(base):  # type: ignore[misc, valid-type]
        def __call__(self, text: str, **options: Any) -> Any:
            assert text in ("", *TEXTS[:8]) or let.wait(30), "later texts were tokenized before the first look"
            return super().__call__(text, **options)

    tokenizer.__class__ = Held
    yield tokenizer, let
    let.set()


def test_the_first_texts_wait_for_no_others(held: tuple[Any, Event]) -> None:
    tokenizer, let = held
    with tokenized(tokenizer, TEXTS, 8, **HOW) as tokens_of:
        first = tokens_of(8)
        assert len(first.ids) == 8
        let.set()
        assert tokens_of(20) == tokenize(byte_tokenizer(), TEXTS, **HOW)
    assert first.ids == tokens_of(20).ids[:8]


@pytest.mark.parametrize("decided", [True, False])
def test_the_first_look_runs_before_later_texts_are_tokenized(held: tuple[Any, Event], decided: bool) -> None:
    tokenizer, let = held
    model = qwen2()
    model.model.register_forward_hook(lambda *_: let.set())
    on_the_threshold = score(qwen2(), byte_tokenizer(), TEXTS).types[2].nfn
    how: dict[str, Any] = {"until": 1.0, "rule": Rule(count=7) if decided else Rule(below=on_the_threshold)}
    found, once = score(model, tokenizer, TEXTS, **how), score(qwen2(), byte_tokenizer(), TEXTS, **how)
    assert len(found.matrix.texts) == (8 if decided else 20)
    assert found.types == once.types
    assert found.tokens == once.tokens


@pytest.mark.parametrize("until", [None, 0.5])
def test_a_bad_text_is_refused_by_its_number_wherever_it_stands(until: float | None) -> None:
    strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{% endfor %}ok"
    bad: list[Message] = [{"role": "system", "content": "x"}]
    texts = [*TEXTS[:15], Conversation(bad)]
    tokenizer = byte_tokenizer(chat_template=strict)
    with pytest.raises(RefusedText, match="text 16: the chat template refuses it") as caught:
        score(qwen2(), tokenizer, texts, until=until, rule=Rule(count=7))
    assert caught.value.index == 15
    assert len(score(qwen2(), tokenizer, texts, until=until, rule=Rule(count=7), skip_bad=True).matrix.texts) >= 8


def test_where_the_first_texts_hold_nothing_the_others_are_waited_for() -> None:
    texts = [""] * 8 + TEXTS[:4]
    found = score(qwen2(), byte_tokenizer(), texts, until=0.5, rule=Rule(count=7))
    assert found.tokens == sum(len(text) for text in TEXTS[:4])
