"""Conversations through a tokenizer's chat template.

    rendered = render(tokenizer, [[{"role": "user", "content": "Why?"}]])

A chat template is a program that comes with a model: it may run for ever, or build what no memory holds. So templates
run in a process of their own, with bounds on time and memory that stand before they start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plop_cli.errors import PlopError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from plop_cli.texts.text import Message

PATIENCE, PATIENCE_EACH = 10.0, 0.05
"""Seconds of one core that all conversations of a call may take: to start, and for each."""

_WAIT = 6
"""How much longer it may take by the clock, where others want the cores too."""

MEMORY = 1 << 30
"""Bytes that a template may take."""

LONGEST = 1 << 24
"""Characters that it may make of one conversation."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, and where in it the assistant's turns are; or `error`, why the template refuses it."""

    text: str = ""
    answers: tuple[tuple[int, int], ...] = ()
    error: str = ""


def render(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[list[Message]], *, answers: bool = False
) -> list[Rendered]:
    """Each conversation by the tokenizer's template, with the places of its answers where they are wanted.

    Raises PlopError where there is no template, or where it does not keep to the bounds.
    """
    from transformers import PreTrainedTokenizerBase

    if not getattr(tokenizer, "chat_template", None):
        raise PlopError(
            "the tokenizer has no chat template; leave out --chat, or turn the messages into text with --template"
        )
    if getattr(type(tokenizer), "apply_chat_template", None) is not PreTrainedTokenizerBase.apply_chat_template:
        if answers:
            raise PlopError(f"{type(tokenizer).__name__} does not tell where answers are; leave out --on answers")
        return [_by_its_own_way(tokenizer, turns) for turns in conversations]
    asked = {
        "template": tokenizer.get_chat_template(None, None),
        "variables": dict(tokenizer.special_tokens_map),
        "conversations": [_plain(turns) for turns in conversations],
        "begins": [getattr(turns, "begins", 0) for turns in conversations],
        "answers": answers,
    }
    return [Rendered(text, tuple(map(tuple, spans)), error) for text, spans, error in _in_a_process(asked)]


def _by_its_own_way(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> Rendered:
    try:
        return Rendered(str(tokenizer.apply_chat_template(turns, tokenize=False)))
    except Exception as error:  # noqa: BLE001  (of whatever class: it is someone else's code)
        return Rendered(error=_reason(error))


def _plain(turns: list[Message]) -> list[Message]:
    """Without what is None, as transformers gives them to templates."""
    return [{name: value for name, value in turn.items() if value is not None} for turn in turns]


def _in_a_process(asked: dict[str, Any]) -> list[Any]:
    count = len(asked["conversations"])
    seconds = PATIENCE + PATIENCE_EACH * count
    command = [sys.executable, "-P", "-m", "plop_cli.scoring.chat", str(int(seconds))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    question = json.dumps(asked, default=str).encode()
    try:
        done = subprocess.run(command, input=question, capture_output=True, timeout=_WAIT * seconds, env=environment)
        ended = -done.returncode not in (getattr(signal, "SIGXCPU", 24), 9)
    except subprocess.TimeoutExpired:
        ended = False
    if not ended:
        raise _unbounded(f"did not end within {seconds:.0f} s for {count} conversations")
    if done.returncode < 0 or b"MemoryError" in done.stderr:
        raise _unbounded("took more memory than it may")
    if done.returncode:
        raise PlopError(f"the chat template cannot be run ({_last_line(done.stderr)}); update transformers")
    answer: list[Any] = json.loads(done.stdout)
    return answer


def _unbounded(what: str) -> PlopError:
    return PlopError(f"the tokenizer's chat template {what}; turn the messages into text with --template")


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1][:200]


def _reason(error: Exception) -> str:
    """What a template's error says, in a line; its class where it says nothing, or is not the template's own."""
    said = " ".join(str(error).split())[:200]
    own = type(error).__name__ in ("TemplateError", "TemplateRuntimeError")
    return said if said and own else ": ".join(filter(None, (type(error).__name__, said)))


# What follows runs in the process of its own.


def main() -> None:
    """Answer the question on stdin: for each conversation its text, the places of the answers, and the error."""
    from transformers.utils.chat_template_utils import render_jinja_template

    asked = json.loads(sys.stdin.buffer.read())
    _bound(int(sys.argv[1]))
    tagged = re.search(r"\{%-?\s*generation\s*-?%\}", asked["template"]) is not None

    def text(turns: list[Message], **options: bool) -> tuple[str, list[tuple[int, int]]]:
        made, places = render_jinja_template([turns], chat_template=asked["template"], **asked["variables"], **options)
        if len(made[0]) > LONGEST:
            raise MemoryError(f"{len(made[0]):,} characters of one conversation")
        return made[0], places[0] if places else []

    found: list[tuple[str, Sequence[tuple[int, int]], str]] = []
    for turns, begins in zip(asked["conversations"], asked["begins"], strict=True):
        try:
            if asked["answers"] and tagged:
                whole, spans = text(turns, return_assistant_tokens_mask=True)
            else:
                whole, _ = text(turns)
                spans = _answers(turns, begins, whole, text) if asked["answers"] else []
            found.append((whole, spans, ""))
        except Exception as error:  # noqa: BLE001  (of whatever class: a template is someone else's program)
            found.append(("", [], _reason(error)))
    sys.stdout.buffer.write(json.dumps(found).encode())


def _bound(seconds: int) -> None:
    """Limits of time, and where the system tells what is taken already, of memory. Windows has neither."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answers(turns: list[Message], begins: int, whole: str, text: Any) -> list[tuple[int, int]]:
    """Where the assistant's turns from `begins` on are in `whole`: what each adds to the prompt that asks for it."""
    spans = []
    for index, turn in enumerate(turns):
        if turn.get("role") != "assistant" or index < begins:
            continue
        upto, _ = text(turns[: index + 1])
        before, prompt = "", ""
        if index:
            before, _ = text(turns[:index])
            prompt, _ = text(turns[:index], add_generation_prompt=True)
        start, end = (_in_common(upto, other) for other in (prompt, whole))
        if start < len(before) or end < len(upto.rstrip()):
            raise ValueError("the template writes earlier turns anew, so it cannot be told where the answers are")
        spans.append((start, end))
    return spans


def _in_common(text: str, other: str) -> int:
    """How many characters both begin with."""
    differ = (index for index, (one, two) in enumerate(zip(text, other, strict=False)) if one != two)
    return next(differ, min(len(text), len(other)))


if __name__ == "__main__":
    main()
