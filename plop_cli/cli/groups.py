"""A parameter of a command that stands for several options.

def loading(dtype: Dtype = "auto", device: Device = "auto") -> Loading: ...

@expanding(loading=loading)
def score(models: list[str], loading: Loading) -> None: ...      # plop score MODEL --dtype … --device …
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

Command = Callable[..., None]


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

        expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return expanded

    return expand
