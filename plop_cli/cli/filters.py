"""Options that the registry's commands share: which registry, and which of its runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

import typer

from plop_cli.cli import completion, panels

_LARGEST = 2**31 - 1
"""No number of runs, texts or tokens is larger, and every library takes it."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def whole(least: int, most: int = _LARGEST) -> Callable[[str], int]:
    """A parser of whole numbers in a range."""

    def parsed(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # also of thousands of digits
            raise typer.BadParameter(f"{text[:40]!r} is no whole number") from None
        if not least <= number <= most:
            raise typer.BadParameter(f"{text[:40]} is not from {least} to {most:,}")
        return number

    return parsed


def _since(text: str) -> datetime:
    return _moment(text, time.min)


def _until(text: str) -> datetime:
    return _moment(text, time.max)


def _moment(text: str, of_day: time) -> datetime:
    """A date, a time (local unless it says otherwise), or how long ago. Args: `of_day` completes a mere date."""
    try:
        if ago := re.fullmatch(r"(\d+)([mhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        if re.fullmatch(r"[\dW-]+", text):
            moment = datetime.combine(moment, of_day)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time; give a date (2026-01-31), a time (2026-01-31T12:00) or an age (12h, 7d, 2w)"
        ) from None


Limit = Annotated[int | None, panels.runs("--limit", "-n", parser=whole(1), metavar="N", help="The newest runs alone.")]
RegistryOption = Annotated[
    str | None,
    panels.output("--registry", help="Path or URL of the registry. Default: $PLOP_REGISTRY, else your data folder's."),
]
Filters = Mapping[str, Any]
"""Each filter by its name in `Registry.runs`; None does not count."""


def filters(
    model: Annotated[
        str | None,
        panels.runs(
            "--model",
            metavar="GLOB",
            autocompletion=completion.models,
            help="Models: [bold]org/*[/bold], org/name@revision, or a path.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        panels.runs(
            "--task",
            "-t",
            metavar="GLOB",
            autocompletion=completion.tasks,
            help="Tasks: [bold]sample/*[/bold], or a path.",
        ),
    ] = None,
    revision: Annotated[
        str | None, panels.runs("--revision", metavar="GLOB", help="Revisions: a label, or how a hash begins.")
    ] = None,
    since: Annotated[
        datetime | None,
        panels.runs("--since", parser=_since, metavar="TIME", help="A date, a time, or an age like 7d."),
    ] = None,
    until: Annotated[
        datetime | None, panels.runs("--until", parser=_until, metavar="TIME", help="Likewise, inclusive.")
    ] = None,
    type: Annotated[
        str | None, panels.runs("--type", metavar="GLOB", help="Module types; runs that have none are left out.")
    ] = None,
    name: Annotated[str | None, panels.runs("--name", metavar="GLOB", help="What runs were called.")] = None,
    note: Annotated[str | None, panels.runs("--note", metavar="GLOB", help="What was noted of them.")] = None,
) -> Filters:
    """The options that say which runs a command is about."""
    names = {"model": model, "task": task, "revision": revision, "type": type, "name": name, "note": note}
    return {**names, "since": since, "until": until}
