"""The one line that says on a terminal's stderr what is being done; nothing where stderr is no terminal.

A thread of its own draws it, so that it moves while libraries are imported. It hides no cursor and sets no mode:
whatever ends the process, the terminal is as it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from plop_cli.processes import rank
from plop_cli.progress import watched

if TYPE_CHECKING:
    from plop_cli.cli.line import Line

_line: Line | None = None


@contextmanager
def status_line() -> Iterator[None]:
    """Inside, what is being done (`progress.says`) is shown, if stderr is a terminal and this the first process."""
    global _line
    if _line or rank() or not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield
        return
    from plop_cli.cli.line import Line

    with open(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as stream:
        _line = Line(stream)
        try:
            with watched(_line.says):
                yield
        finally:
            _line.close()
            _line = None


def hidden(text: str) -> AbstractContextManager[None]:
    """The line is gone inside, where `text` is written."""
    return _line.hidden(text) if _line else nullcontext()
