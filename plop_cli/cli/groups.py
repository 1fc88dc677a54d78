"""What commands are made with: a parameter that stands for several options, `--quiet` for all of them, and a group that
imports them one by one.

def loading(dtype: Dtype = "auto", device: Device = "auto") -> Loading: ...

@expanding(loading=loading)
def score(models: list[str], loading: Loading) -> None: ...      # plop score MODEL --dtype … --device …
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any

import typer
from typer.main import get_group

from plop_cli.cli import panels
from plop_cli.cli.console import quietly
from plop_cli.progress import says

Command = Callable[..., None]
_Quiet = Annotated[bool, panels.output("--quiet", "-q", help="No progress and no notes; warnings and results stay.")]


class Commands(typer.Typer):
    """A group of commands that list their options by panels, and can be told to be quiet."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        added = super().command(name, cls=panels.Command, **options)
        return lambda command: added(_quietable(command))


class Lazily(Mapping[str, Any]):
    """Commands by their names. The module of one is imported when it is asked for: a shell that completes asks for one.

    Args:
        panels: the names of commands, and so of their modules, by the panel of `--help` that lists them.
    """

    def __init__(self, panels: Mapping[str, Sequence[str]]) -> None:
        self._panels = {name: panel for panel, names in panels.items() for name in names}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            panel, own = self._panels[name], f"{name}_" if iskeyword(name) else name
            module, alone = import_module(f"plop_cli.cli.{own}"), Commands(rich_markup_mode="rich")
            if isinstance(group := getattr(module, "commands", None), typer.Typer):
                alone.add_typer(group, name=name, rich_help_panel=panel)
            else:
                alone.command(name, rich_help_panel=panel)(getattr(module, own))
            self._made[name] = get_group(alone).commands[name]
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._panels)

    def __len__(self) -> int:
        return len(self._panels)


def _quietable(command: Command) -> Command:
    @wraps(command)
    def run(*, quiet: bool, **given: Any) -> None:
        with quietly() if quiet else nullcontext():
            says("starting")
            command(**given)

    signature = inspect.signature(command, eval_str=True)
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_Quiet)
    return _signed(run, signature, [*signature.parameters.values(), quiet])


def expanding(**groups: Callable[..., Any]) -> Callable[[Command], Command]:
    """The command with the parameters of each group in place of the parameter of that name, which is given its value.

    Typer reads a command's options off its signature, so the signature is what is rewritten.
    """
    inner = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}

    def expand(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, own in signature.parameters.items()
            for parameter in (inner[name].values() if name in groups else [own])
        ]

        @wraps(command)
        def expanded(**given: Any) -> None:
            values = {
                name: group(**{option: given.pop(option) for option in inner[name]}) for name, group in groups.items()
            }
            command(**values, **given)

        return _signed(expanded, signature, parameters)

    return expand


def _signed(command: Command, signature: inspect.Signature, parameters: Sequence[inspect.Parameter]) -> Command:
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
