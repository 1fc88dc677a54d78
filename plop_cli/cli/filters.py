"""Options that the registry's commands share: which registry, and which of its runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import wraps
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

_FILTERS = {
    "model": Annotated[
        str | None, typer.Option("--model", metavar="GLOB", help="Models: [bold]org/*[/bold], or org/name@revision.")
    ],
    "task": Annotated[str | None, typer.Option("--task", "-t", metavar="GLOB", help="Tasks: [bold]sample/*[/bold].")],
    "revision": Annotated[
        str | None, typer.Option("--revision", metavar="GLOB", help="Revisions: a label, or how a hash begins.")
    ],
    "since": Annotated[
        datetime | None,
        typer.Option("--since", parser=_since, metavar="TIME", help="A date, a time, or an age like 7d."),
    ],
    "until": Annotated[
        datetime | None, typer.Option("--until", parser=_until, metavar="TIME", help="Likewise, inclusive.")
    ],
    "type": Annotated[
        str | None, typer.Option("--type", metavar="GLOB", help="Module types; runs that have none are left out.")
    ],
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each filter, where it has the parameter `filters`."""
    signature = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _FILTERS.items()
    ]
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += options if name == "filters" else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

    @wraps(command)
    def with_filters(**given: Any) -> None:
        command(filters={name: given.pop(name) for name in _FILTERS}, **given)

    with_filters.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    with_filters.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_filters
