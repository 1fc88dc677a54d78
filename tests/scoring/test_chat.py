"""Chat templates: what they may not do, and where the answers are that `--on answers` scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import real_model
import small_models
from plop_cli import PlopError, score
from plop_cli.scoring import chat
from plop_cli.scoring.tokens import RefusedText, tokenize
from plop_cli.texts.text import Answered, Conversation, Message

TURNS = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
PROMPTED = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
TAGGED = (
    "{% for turn in messages %}<{{ turn.role }}>"
    "{% if turn.role == 'assistant' %}{% generation %}{{ turn.content }}{% endgeneration %}"
    "{% else %}{{ turn.content }}{% endif %}{% endfor %}"
)
STRICT = "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
STRICT += "<{{ turn.role }}>{{ turn.content }}{% endfor %}"


def turns(*contents: str) -> list[Message]:
    """Contents of the user and of the assistant, in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def tokenizer(template: str) -> Any:
    return small_models.byte_tokenizer(chat_template=template)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError"),
        ("{{ 'x' * 10**10 }}", "MemoryError"),
        ("{{ 'x'|center(10**10) }}", "MemoryError"),
        ("{{ '%9999999999d' % 1 }}", "Error"),
        ("{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "MemoryError"),
        ("{{ 'x' * 20_000_000 }}", "20,000,000 characters of one conversation"),
        ("{{ raise_exception('roles must alternate') }}", "(roles must alternate)"),
        ("{{ messages[0].content.nothing.more }}", "UndefinedError"),
        ("{% for", "TemplateSyntaxError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{% include 'x' %}", "TypeError"),
    ],
)
def test_a_template_that_fails_or_asks_for_too_much_refuses_the_conversation_in_a_line(
    template: str, said: str
) -> None:
    with pytest.raises(RefusedText) as caught:
        tokenize(tokenizer(template), [turns("hello")], max_length=64, chat=False)
    assert caught.value.index == 0
    assert "the chat template refuses it" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_runs_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "PATIENCE", 3.0)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(PlopError, match="did not end within 3 s for 1 conversations; turn the messages into text"):
        chat.render(tokenizer(endless), [turns("hello")])


def test_the_text_is_that_of_transformers() -> None:
    """Real templates, real tokenizer: a conversation with a system turn, and with what is None."""
    _, real = real_model.smollm2()
    talks = [turns("Why?", "Because."), [{"role": "system", "content": "Be brief."}, *turns("Why?")]]
    talks.append([{"role": "user", "content": "Why?", "tool_calls": None}])
    rendered = chat.render(real, talks)
    assert [each.text for each in rendered] == [real.apply_chat_template(talk, tokenize=False) for talk in talks]


def test_refused_conversations_are_passed_over_when_asked_and_counted() -> None:
    model = small_models.qwen2()
    talks = [turns("one", "two"), [{"role": "system", "content": "s"}, *turns("three")], turns("four")]
    with pytest.raises(RefusedText, match="text 2: the chat template refuses it"):
        score(model, tokenizer(STRICT), talks)
    scores = score(model, tokenizer(STRICT), talks, skip_bad=True)
    assert "1 of 3 texts were passed over (--skip-bad); the first: the chat template refuses it" in scores.warnings[0]
    assert scores.settings["skip_bad"] is True
    without = score(model, tokenizer(STRICT), [talks[0], talks[2]])
    assert [each.nfn for each in scores.modules] == [each.nfn for each in without.modules]
    assert "skip_bad" not in score(model, tokenizer(STRICT), [talks[0]], skip_bad=True).settings


@pytest.mark.parametrize(
    ("template", "text", "answers"),
    [
        (PROMPTED, turns("ab", "cd", "ef", "gh"), ["cd", "gh"]),
        (TAGGED, turns("ab", "cd", "ef", "gh"), ["cd", "gh"]),
        (TURNS, turns("ab", "cd"), ["<assistant>cd"]),  # no prompt to tell the header by
        (PROMPTED, turns("a", "a"), ["a"]),
        (PROMPTED, Answered("2 + 2 is ", "4."), ["4."]),
        (None, Answered("2 + 2 is ", "4."), ["4."]),
        (None, Answered("Größe?", "éa 😀", "\n"), ["éa 😀"]),
    ],
)
def test_the_tokens_of_answers_are_marked(template: str | None, text: Any, answers: list[str]) -> None:
    reader = tokenizer(template or TURNS)
    tokens = tokenize(reader, [text], max_length=256, chat=template is not None, on="answers")
    assert tokens.answers is not None
    marks = tokens.answers[0]
    marked = [token for token, mark in zip(tokens.ids[0], marks, strict=True) if mark]
    assert reader.decode(marked) == "".join(answers)
    assert sum(a != b for a, b in zip([False, *marks], [*marks, False], strict=True)) == 2 * len(answers), "in runs"


def test_the_turns_of_a_prompt_are_no_answers() -> None:
    talk = Conversation(turns("ab", "cd", "ef", "gh"))
    talk.begins = 3
    reader = tokenizer(PROMPTED)
    tokens = tokenize(reader, [talk], max_length=256, chat=False, on="answers")
    assert tokens.answers is not None
    assert reader.decode([t for t, mark in zip(tokens.ids[0], tokens.answers[0], strict=True) if mark]) == "gh"


def test_the_answers_of_a_real_template_are_the_assistants_words_and_the_end_of_its_turn() -> None:
    _, real = real_model.smollm2()
    tokens = tokenize(real, [turns("Why?", "Because.", "So?", "Yes.")], max_length=256, chat=False, on="answers")
    assert tokens.answers is not None
    marked = [token for token, mark in zip(tokens.ids[0], tokens.answers[0], strict=True) if mark]
    assert real.decode(marked) == "Because.<|im_end|>\nYes.<|im_end|>\n"


def test_scores_on_answers_are_those_of_all_tokens_less_those_of_the_prompts() -> None:
    """The model is causal: a prompt's tokens are the same with and without the answer behind them."""
    model, reader = small_models.qwen2(), small_models.byte_tokenizer()
    pairs = [Answered("What is 2 + 2? ", "It is 4."), Answered("Name a prime: ", "seven, or eleven")]
    answers = score(model, reader, pairs, on="answers").matrix
    whole, prompts = score(model, reader, pairs).matrix, score(model, reader, [pair.prompt for pair in pairs]).matrix
    assert (answers.counts == whole.counts - prompts.counts).all()
    np.testing.assert_allclose(answers.sums, whole.sums - prompts.sums, rtol=1e-4)
    np.testing.assert_allclose(answers.squares, whole.squares - prompts.squares, rtol=1e-3)
    assert (answers.texts == whole.texts).all(), "the texts are the same, so that runs can be paired"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no answer here", "no answer is known apart in it"),
        (turns("no answer here"), "no answer is known apart in it"),
    ],
)
def test_what_has_no_answer_is_refused(text: Any, said: str) -> None:
    with pytest.raises(RefusedText, match=said):
        score(small_models.qwen2(), tokenizer(PROMPTED), [text], on="answers")


def test_answers_beyond_the_longest_text_are_said() -> None:
    pairs = [Answered("a" * 40, "b"), Answered("a", "b")]
    scores = score(small_models.qwen2(), small_models.byte_tokenizer(), pairs, max_length=20, on="answers")
    assert "1 of 2 texts have no answer among their first tokens (--max-length)" in scores.warnings
    assert scores.tokens == 1


def test_a_template_that_writes_earlier_turns_anew_is_refused_for_answers() -> None:
    forgetful = (
        "{% for turn in messages %}{% if loop.last or turn.role == 'user' %}{{ turn.content }}{% endif %}{% endfor %}"
    )
    with pytest.raises(RefusedText, match="writes earlier turns anew"):
        tokenize(tokenizer(forgetful), [turns("ab", "cd", "ef", "gh")], max_length=99, chat=False, on="answers")


def test_default_settings_are_as_before() -> None:
    """Keys of stored runs are made of them."""
    settings = score(small_models.qwen2(), small_models.byte_tokenizer(), ["a b"]).settings
    names = {"samples", "max_length", "seed", "dtype", "quantization", "chat", "adapter", "engine"}
    assert settings.keys() == names
