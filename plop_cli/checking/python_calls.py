"""The calls of a Python file that set up LoRA: PEFT's `LoraConfig`, Unsloth's `get_peft_model`. Read, never run."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from typing import Any

from plop_cli.checking.peft_config import read as read_keywords
from plop_cli.checking.wanted import ALL, Finding, Wanted
from plop_cli.errors import PlopError
from plop_cli.words import listed

_UNSLOTH = {
    "r": 16,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
_READ = {"r", "target_modules", "target_parameters", "exclude_modules", "lora_alpha", "lora_dropout", "use_rslora"}
_READ |= {"use_dora", "modules_to_save", "task_type", "layers_to_transform", "layers_pattern", "rank_pattern"}

# unsloth/models/vision.py (2026.10.9): these narrow or widen what target_modules name, whether those are given or not.
_SWITCH = "finetune_"
_DEFAULTS: dict[str | None, bool | None] = {
    **{f"{_SWITCH}{part}": True for part in ("vision_layers", "language_layers", "attention_modules", "mlp_modules")},
    f"{_SWITCH}audio_layers": False,
    f"{_SWITCH}last_n_layers": None,
}


def read(source: str, text: str) -> list[Wanted]:
    """What each of the calls asks for, called by its line. PlopError where there is none, or one is computed."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise PlopError(f"{source} is no Python ({error.msg}, line {error.lineno}); mend it first") from error
    names = _assigned(tree)
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


def _wanted(source: str, node: ast.Call, unsloth: bool, names: dict[str, ast.expr]) -> Wanted:
    keys: dict[str, Any] = dict(_UNSLOTH) if unsloth else {}
    computed = []
    for keyword in node.keywords:
        if keyword.arg is not None and keyword.arg not in _READ and unsloth:
            continue
        try:
            keys |= _items(keyword, names)
        except (ValueError, TypeError):
            if keyword.arg is None or keyword.arg in _READ:
                computed.append(keyword.arg or "**keywords")
    if computed:
        raise PlopError(f"{source}: {listed(computed)} is computed, which cannot be read; give it to --targets")
    found = _of_unsloth(node, keys, names) if unsloth else ()
    wanted = read_keywords(source, keys, "unsloth" if unsloth else "python")
    return replace(wanted, base=None, findings=(*wanted.findings, *found))


def _of_unsloth(node: ast.Call, keys: dict[str, Any], names: dict[str, ast.expr]) -> list[Finding]:
    """What Unsloth does with the call and is not read here; sets the targets of a call that names none."""
    found, switches = [], []
    for keyword in node.keywords:
        if keyword.arg is None or not keyword.arg.startswith(_SWITCH):
            continue
        try:
            default = _value(keyword.value, names) is _DEFAULTS.get(keyword.arg, ...)
        except (ValueError, TypeError):
            default = False
        if not default:
            switches.append(keyword.arg)
    if switches:
        text = f"Unsloth also chooses by {listed(switches)}, not read here, so it may adapt other modules than these"
        found.append(Finding("warning", "not-read", text))
    owner = getattr(getattr(node.func, "value", None), "id", "")
    named = {keyword.arg for keyword in node.keywords} & {"target_modules", None}
    if owner in ("FastModel", "FastVisionModel") and not (named and keys["target_modules"]):
        keys["target_modules"] = ALL
        text = "without target_modules Unsloth takes linear modules by a pattern of its own; read as all-linear"
        found.append(Finding("note", "not-read", text))
    return found


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """What a name stands for: of those that the whole file binds once and does not change in place afterwards."""
    values: dict[str, ast.expr] = {}
    bound, changed = Counter[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            values[node.target.id] = node.value
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound[node.id] += 1
        elif isinstance(node, ast.arg):
            bound[node.arg] += 1
        elif isinstance(node, ast.Global | ast.Nonlocal):
            changed |= set(node.names)
        elif isinstance(node, ast.alias):
            bound[node.asname or node.name] += 1
        elif (owner := _changed(node)) is not None:
            changed.add(owner)
    return {name: value for name, value in values.items() if bound[name] == 1 and name not in changed}


def _changed(node: ast.AST) -> str | None:
    """The name that T.append(…) or T[0] = … may change in place."""
    method = isinstance(node, ast.Attribute)
    item = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
    return getattr(getattr(node, "value", None), "id", None) if method or item else None


def _value(node: ast.expr, names: dict[str, ast.expr]) -> Any:
    """A literal, a name that stands for one, dict(…), a sum or product, or an enumeration's member (TaskType.X)."""
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ValueError(node.id)
        return _value(names[node.id], {name: value for name, value in names.items() if name != node.id})
    if isinstance(node, ast.Attribute) and node.attr.isupper():
        return node.attr
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and not node.args:
        return {key: value for keyword in node.keywords for key, value in _items(keyword, names).items()}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _value(node.left, names) + _value(node.right, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _value(node.left, names), _value(node.right, names)
        if not isinstance(left, int | float) or not isinstance(right, int | float):  # no list of a billion names
            raise ValueError("a product of other things than numbers")
        return left * right
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, names) for item in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return dict(zip(keys, (_value(value, names) for value in node.values), strict=True))
    return ast.literal_eval(node)


def _items(keyword: ast.keyword, names: dict[str, ast.expr]) -> dict[str, Any]:
    """What key=value or **keys adds to a dictionary."""
    value = _value(keyword.value, names)
    if keyword.arg is None and not isinstance(value, dict):
        raise ValueError("no dictionary")
    return value if keyword.arg is None else {keyword.arg: value}
