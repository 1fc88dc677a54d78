"""Progress in a notebook: a bar below the cell, gone once the call ends. With ipywidgets it is a widget, else HTML.

@notebook_bar()
def score(…): …
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from plop_cli.printable import printable
from plop_cli.progress import is_watched, watched

_EVERY = 0.1
"""Seconds between two drawings of the same step."""


@contextmanager
def notebook_bar() -> Iterator[None]:
    """Inside, what is being done is shown, if this is a notebook and nobody else is told."""
    if is_watched() or not _in_notebook():
        yield
        return
    bar = _Bar()
    with watched(bar.says):
        try:
            yield
        finally:
            bar.close()


def _in_notebook() -> bool:
    """Whether a kernel runs this. Nothing is imported for it: a kernel has imported IPython."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


class _Bar:
    def __init__(self) -> None:
        self._shown: Any = None
        self._what, self._drawn = "", 0.0

    def says(self, what: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if what == self._what and now - self._drawn < _EVERY:
            return
        self._what, self._drawn = what, now
        told = f"{what}: {done:,} of {total:,} {unit}" if total else what
        if self._shown is None:
            self._shown = _shown()
        self._shown.update(printable(told), done, total)

    def close(self) -> None:
        if self._shown is not None:
            self._shown.close()


class _Widget:
    def __init__(self, widgets: Any) -> None:
        from IPython.display import display

        self._bar, self._text = widgets.FloatProgress(max=1.0), widgets.Label()
        self._box = widgets.HBox([self._bar, self._text])
        display(self._box)

    def update(self, told: str, done: int, total: int) -> None:
        self._bar.bar_style = "" if total else "info"
        self._bar.value = done / total if total else 1.0
        self._text.value = told

    def close(self) -> None:
        self._box.close()


class _Html:
    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._handle = display(HTML(""), display_id=True)

    def update(self, told: str, done: int, total: int) -> None:
        amount = f' value="{done}" max="{total}"' if total else ""
        self._handle.update(self._html(f"<label><progress{amount}></progress> {escape(told)}</label>"))

    def close(self) -> None:
        self._handle.update(self._html(""))


def _shown() -> _Widget | _Html:
    try:
        import ipywidgets
    except ImportError:
        return _Html()
    return _Widget(ipywidgets)
