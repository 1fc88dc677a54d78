"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def out() -> Console:
    """stdout, made anew for each use, so that it is the stream of now. What users named is shown as it is written."""
    return Console(highlight=False, markup=False, emoji=False)


def err() -> Console:
    """stderr."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed inside; a bug's traceback is, once it has left."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def say(text: str, *, end: str = "\n") -> None:
    """Write a result on stdout, as the stream of now takes it: `typer.echo` would choose an encoding of its own."""
    sys.stdout.write(f"{text}{end}")
    sys.stdout.flush()


def note(text: str) -> None:
    """Say what a user would not guess, on stderr."""
    typer.echo(f"note: {text}", err=True)


def warn(text: str) -> None:
    """Say what a user should look at, on stderr."""
    typer.echo(f"warning: {text}", err=True)


def fail(error: object) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo(f"plop: {' '.join(str(error).split())}", err=True)


def print_json(value: Any) -> None:
    """The one JSON form, on stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=not shows_unicode(), allow_nan=False))


def shows_unicode() -> bool:
    """Whether stdout can show every character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} tokens/s" if task.total else "")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A spinner, then a bar with tokens per second and time left; nothing where stderr is no terminal."""
    console = err()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
