"""Commands as pages show them: blocks of `console` and `bash`, and indented ones, with what is said of each before it.

<!-- not run: needs a hub -->       the block that follows is not run, for this reason
<!-- exit 3 -->                     its last command ends so
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

from structure import ROOT

LANGUAGES = ("console", "bash", "sh", "shell")
MADE = ("docs/architectures.md", "docs/check.md", "docs/evidence.md", "docs/families.md", "docs/trainers.md")
"""Pages that programs write and other tests hold."""

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(p for p in (str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md"))) if p not in MADE),
]


@dataclass(frozen=True)
class Block:
    """Commands that stand together on a page."""

    page: str
    line: int
    commands: tuple[str, ...]
    not_run: str | None = None
    exit: int = 0

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> Iterator[Block]:
    """The blocks of commands on a page, in their order."""
    before = ""
    for token in MarkdownIt().parse((ROOT / page).read_text()):
        language = token.info.split(" ")[0]
        told = token.type == "fence" and language in LANGUAGES
        plain = token.type == "code_block" or (token.type == "fence" and not language)
        if told or (plain and re.match(r"(\$ )?(plop|make|pip|cat|torchrun) ", token.content)):
            assert token.map
            reason = re.search(r"<!-- not run: (.+?) -->", before, re.DOTALL)
            ends = re.search(r"<!-- exit (\d+) -->", before)
            yield Block(
                page,
                token.map[0] + 1,
                tuple(commands(token.content)),
                not_run=reason[1] if reason else None,
                exit=int(ends[1]) if ends else 0,
            )
        before = token.content if token.type == "html_block" else ""


def commands(text: str) -> Iterator[str]:
    """The commands of a block: what follows a `$ `, or all lines where nothing does; each with its further lines."""
    lines = text.splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    while lines:
        line = lines.pop(0)
        if prompted and not line.startswith("$ "):
            continue  # what it printed
        command = line.removeprefix("$ ")
        while lines and not _whole(command):
            command += "\n" + lines.pop(0).removeprefix("> ")
        if _words(command):
            yield command


def _whole(command: str) -> bool:
    """Whether no quote, no backslash and no here-document is open."""
    here = re.search(r"<<-?\s*['\"]?(\w+)", command)
    if here:
        return command.rstrip().endswith(f"\n{here[1]}")
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return not command.endswith("\\")


def _words(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "), comments=True)


def plain_words(command: str) -> list[str] | None:
    """The words of a command that needs no shell; None where it needs one."""
    unquoted = re.sub(r"'[^']*'|\"[^\"$`]*\"|(?:^|\s)#.*", "", command.replace("\\\n", " "))
    return None if re.search(r"[|&;<>*?$`~(){}]|^\w+=", unquoted) else _words(command)


def of_plop(command: str) -> Iterator[list[str]]:
    """The words of each `plop …` in a command, without what goes where."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    elsewhere = False
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;()"):
            if words[:1] == ["plop"]:
                yield words[1:]
            words = []
        elif set(word) <= set("<>"):
            elsewhere = True
        elif elsewhere:
            elsewhere = False
        elif words or "=" not in word:
            words.append(word)
