"""The calls of a Python file that set up LoRA: PEFT's `LoraConfig`, Unsloth's `get_peft_model`. Read, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from plop_cli.checking.peft_config import read as read_keywords
from plop_cli.checking.wanted import Wanted
from plop_cli.errors import PlopError
from plop_cli.words import listed

_UNSLOTH = {
    "r": 16,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
_READ = {"r", "target_modules", "target_parameters", "exclude_modules", "lora_alpha", "lora_dropout", "use_rslora"}
_READ |= {"use_dora", "modules_to_save", "task_type", "layers_to_transform", "layers_pattern", "rank_pattern"}


def read(source: str, text: str) -> list[Wanted]:
    """What each of the calls asks for, called by its line. PlopError where there is none, or one is computed."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise PlopError(f"{source} is no Python ({error.msg}, line {error.lineno}); mend it first") from error
    names = dict(_constants(tree))
    found = [call for node in ast.walk(tree) if isinstance(node, ast.Call) and (call := _call(node))]
    if not found:
        raise PlopError(f"{source} calls neither LoraConfig nor get_peft_model(model, r=…); give the file that does")
    return [_wanted(f"{source}:{node.lineno}", node, unsloth, names) for node, unsloth in found]


def _call(node: ast.Call) -> tuple[ast.Call, bool] | None:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    keywords = {keyword.arg for keyword in node.keywords}
    if name == "LoraConfig":
        return node, False
    owner = getattr(getattr(node.func, "value", None), "id", "")
    return (node, True) if name == "get_peft_model" and (owner.startswith("Fast") or "r" in keywords) else None


def _wanted(source: str, node: ast.Call, unsloth: bool, names: dict[str, Any]) -> Wanted:
    keys: dict[str, Any] = dict(_UNSLOTH) if unsloth else {}
    computed = ["**keywords"] if any(keyword.arg is None for keyword in node.keywords) else []
    for keyword in node.keywords:
        if keyword.arg is None or (keyword.arg not in _READ and unsloth):
            continue
        try:
            keys[keyword.arg] = _value(keyword.value, names)
        except ValueError:
            if keyword.arg in _READ:
                computed.append(keyword.arg)
    if computed:
        raise PlopError(f"{source}: {listed(computed)} is computed, which cannot be read; give it to --targets")
    wanted = read_keywords(source, keys, "unsloth" if unsloth else "python")
    return replace(wanted, rank=wanted.rank, base=None)


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Names that are given a literal, once or last, anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                yield node.targets[0].id, ast.literal_eval(node.value)
            except ValueError:
                continue


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """A literal, a name that was given one, or the member of an enumeration (TaskType.CAUSAL_LM)."""
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ValueError(node.id)
        return names[node.id]
    if isinstance(node, ast.Attribute) and node.attr.isupper():
        return node.attr
    return ast.literal_eval(node)
