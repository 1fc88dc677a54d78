"""Options that the registry's commands share: which registry, and which of its runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

import typer

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


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


RegistryOption = Annotated[
    str | None,
    typer.Option("--registry", help="Path or URL of the registry. Default: $PLOP_REGISTRY, else your data folder's."),
]
Filters = Mapping[str, Any]
"""Each filter by its name in `Registry.runs`; None does not count."""


def filters(
    model: Annotated[
        str | None, typer.Option("--model", metavar="GLOB", help="Models: [bold]org/*[/bold], or org/name@revision.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="GLOB", help="Tasks: [bold]sample/*[/bold].")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="GLOB", help="Revisions: a label, or how a hash begins.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", parser=_since, metavar="TIME", help="A date, a time, or an age like 7d."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", parser=_until, metavar="TIME", help="Likewise, inclusive.")
    ] = None,
    type: Annotated[
        str | None, typer.Option("--type", metavar="GLOB", help="Module types; runs that have none are left out.")
    ] = None,
) -> Filters:
    """The options that say which runs a command is about."""
    return {"model": model, "task": task, "revision": revision, "since": since, "until": until, "type": type}
