"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import typer

from plop_cli.printable import printable
from plop_cli.progress import watched

if TYPE_CHECKING:
    from rich.console import Console


def out() -> Console:
    """stdout, made anew for each use, so that it is the stream of now. What users named is shown as it is written."""
    return _console(stderr=False)


def err() -> Console:
    """stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    """With $NO_COLOR there is neither bold nor dim either."""
    from plop_cli.cli.printing import Printable  # takes 15 ms, which completion would wait for

    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Printable(stderr=stderr, highlight=False, markup=False, emoji=False, color_system=colours)


def say(text: str) -> None:
    """A line on stdout, of which a terminal obeys nothing."""
    put(printable(text) + "\n")


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed inside; a bug's traceback is, once it has left."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def is_quiet() -> bool:
    """Whether nobody wants to know how it goes."""
    return _quiet.get()


@contextmanager
def quietly() -> Iterator[None]:
    """Inside nothing is noted and no progress shown. Warnings stay: a number may be less than it seems."""
    before = _quiet.set(True)
    try:
        with watched(lambda *_: None):
            yield
    finally:
        _quiet.reset(before)


def tell(text: str) -> None:
    """Say what was done, on stderr."""
    if not is_quiet():
        typer.echo(printable(text), err=True)


def note(text: str) -> None:
    """Say what a user would not guess, on stderr."""
    tell(f"note: {text}")


def warn(text: str) -> None:
    """Say what a user should look at, on stderr."""
    typer.echo(f"warning: {printable(text)}", err=True)


def fail(error: object) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo(f"plop: {printable(' '.join(str(error).split()))}", err=True)


def print_json(value: Any) -> None:
    """The one JSON form, on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=not shows_unicode(), allow_nan=False)
    put(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")  # JSON escapes the others


def print_rows(text: str) -> None:
    """Rows as text on stdout: as they are into a file or a pipe, onto a terminal so that it obeys nothing in them."""
    put(printable(text) if sys.stdout.isatty() else text)


def shows_unicode() -> bool:
    """Whether stdout can show every character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def put(text: str) -> None:
    """Text on stdout, in that stream's own encoding: `typer.echo` would choose another."""
    sys.stdout.write(text)
    sys.stdout.flush()


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextmanager
def warnings_of(logger: str) -> Iterator[None]:
    """What a library logs inside is a warning like ours."""
    handler = _Warnings()
    logging.getLogger(logger).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(handler)
