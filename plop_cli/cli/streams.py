"""The standard streams as a command needs them: open, never failing over a character, and told when they break."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from plop_cli.cli.status import hidden
from plop_cli.errors import PlopError


class _Output(io.TextIOWrapper):
    """stdout: what its encoding has no character for is a question mark, and a full disk is said."""

    def write(self, text: str, /) -> int:
        with _said(), hidden(text):
            return super().write(text)

    def flush(self) -> None:
        with _said():
            super().flush()


class _Remarks(io.TextIOWrapper):
    """stderr: where nobody can be told, nothing is said."""

    def write(self, text: str, /) -> int:
        with hidden(text), suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever read has read enough
        raise
    except OSError as error:
        raise PlopError(f"cannot write the output ({error.strerror or error}); send it elsewhere") from error


def prepare() -> None:
    """Put such streams in the place of Python's. Raises PlopError where stdout is closed: the result would be lost."""
    if sys.stdin is None:
        sys.stdin = _nowhere("r")
    sys.stderr = _over(sys.stderr, _Remarks) if sys.stderr else _nowhere("w")
    if sys.stdout is None:
        raise PlopError("standard output is closed; send it to a file, or to /dev/null")
    sys.stdout = _over(sys.stdout, _Output)


def give_up() -> None:
    """Send what is left of stdout nowhere, or Python would try again to write it as it ends, and say so."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _nowhere(mode: str) -> TextIO:
    stream: TextIO = io.TextIOWrapper(io.FileIO(os.devnull, mode), encoding="utf-8")
    return stream


def _over(stream: TextIO, kind: type[io.TextIOWrapper]) -> TextIO:
    buffering: dict[str, Any] = {"line_buffering": stream.line_buffering}
    errors = "replace" if kind is _Output else "backslashreplace"
    return kind(stream.detach(), encoding=stream.encoding, errors=errors, **buffering)  # type: ignore[attr-defined]
