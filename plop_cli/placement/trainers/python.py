"""Python: the lines to paste into a training script that uses PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plop_cli.placement.placement import Placement


TASKS = ()
FILE = "peft.py"


def write(placement: Placement) -> tuple[str, list[str]]:
    """A `LoraConfig` and the model with its adapters."""
    text = (
        "from peft import LoraConfig, get_peft_model\n\n"
        f"{call('config = LoraConfig', placement.lora_arguments)}"
        "model = get_peft_model(model, config)\n"
    )
    return text, placement.adapted(placement.targeting)


def call(function: str, keywords: dict[str, Any], *positional: str) -> str:
    """The source of a call, one argument a line."""
    arguments = [*positional, *(f"{name}={_literal(value)}" for name, value in keywords.items())]
    return f"{function}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")\n"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        return f'r"{value}"' if "\\" in value else f'"{value}"'
    return repr(value)
