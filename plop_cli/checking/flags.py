"""The flags of `trl sft` and `swift sft`, and the overrides of verl, from a file or a command line."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from plop_cli.checking.trainer_configs import READERS
from plop_cli.checking.wanted import Wanted
from plop_cli.errors import PlopError

_MANY = {"lora_target_modules", "lora_target_parameters", "lora_modules_to_save", "target_modules", "target_parameters"}
_MANY |= {"modules_to_save"}
_SWIFT = {"lora_rank", "target_modules", "target_regex", "tuner_type", "train_type"}
_TRL = {"use_peft", "lora_r", "lora_target_modules", "lora_task_type"}


def read(source: str, text: str, trainer: str | None = None) -> Wanted:
    """What the words of a command ask for. PlopError where they are of no trainer that has such flags."""
    try:
        words = _words(text)
        keys = read_keys(text)
    except (ValueError, yaml.YAMLError) as error:
        raise PlopError(f"{source} cannot be split into words as a shell does ({error}); mend its quotes") from error
    if "model" in keys and isinstance(keys["model"], dict):
        return READERS["verl"](source, keys)
    command = next((name for name, mark in (("trl", "trl"), ("ms-swift", "swift")) if mark in words[:1]), None)
    has = {name for name in keys if keys[name] is not None}
    named = trainer or command or ("trl" if has & _TRL else "ms-swift" if has & _SWIFT else None)
    if named not in ("trl", "ms-swift"):
        raise PlopError(
            f"{source} has no flag of TRL's or ms-swift's LoRA (--lora_r, --lora_rank); give a config, or --targets"
        )
    return READERS[named](source, keys)


def read_keys(text: str) -> dict[str, Any]:
    """What the words say, by name: flags, or Hydra's overrides of a section `model`."""
    words = _words(text)
    overrides = any("model.lora_rank=" in word or "model.target_modules=" in word for word in words)
    return _overrides(words) if overrides else _flags(words)


def _words(text: str) -> list[str]:
    return shlex.split(text.replace("\\\n", " "), comments=True)


def _flags(words: list[str]) -> dict[str, Any]:
    """--name value value … → values by name, with dashes as underscores; a flag without a value is true."""
    found: dict[str, list[str]] = {}
    name = None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found.setdefault(name, []).extend([value] if equals else [])
        elif name:
            found[name].append(word)
    return {name: (values if name in _MANY else values[0] if values else True) for name, values in found.items()}


def _overrides(words: list[str]) -> dict[str, Any]:
    """Hydra's a.b.model.key=value → the section `model`."""
    section: dict[str, Any] = {}
    for word in words:
        path, equals, value = word.partition("=")
        if equals and path.lstrip("+").rpartition(".")[0].endswith("model"):
            section[path.rpartition(".")[2]] = yaml.safe_load(value.replace("[", "[ ").replace(",", ", "))
    return {"model": section}
