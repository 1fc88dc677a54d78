"""CONFIG → what it asks for: a file of any trainer, an adapter's folder, flags, a dictionary, or a `LoraConfig`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from plop_cli.checking import flags, peft_config, python_calls
from plop_cli.checking.trainer_configs import READERS, trainer_of
from plop_cli.checking.wanted import Wanted
from plop_cli.errors import PlopError, no_such

TRAINERS = ("peft", "python", "unsloth", *READERS)


def read(config: Any, trainer: str | None = None) -> list[Wanted]:
    """What a config asks for; a Python file may hold several.

    Args: `trainer` is whose config it is (`TRAINERS`), where that should not be found out.

    Raises PlopError where it cannot be read, is of no trainer, or of another one than said.
    """
    if trainer is not None and trainer not in TRAINERS:
        raise no_such("trainer", trainer, TRAINERS)
    if isinstance(config, str | Path):
        found = _of_file(Path(config).expanduser(), trainer)
    elif isinstance(config, Mapping):
        found = [_of_keys("the config", config)]
    elif hasattr(config, "to_dict"):
        found = [peft_config.read(type(config).__name__, config.to_dict())]
    else:
        raise PlopError(f"a {type(config).__name__} is no config; give a path, a dictionary or a LoraConfig")
    for wanted in found:
        if trainer and wanted.format != trainer:
            raise PlopError(f"{wanted.source} is a config for {wanted.format}, not for {trainer}; leave out --trainer")
    return found


def _of_file(path: Path, trainer: str | None) -> list[Wanted]:
    if path.is_dir():
        if not (path / "adapter_config.json").is_file():
            raise PlopError(f"{path} has no adapter_config.json; give the folder that PEFT's save_pretrained wrote")
        path = path / "adapter_config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PlopError(f"there is no file {path}; give a config, or names with --targets") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlopError(f"{path} cannot be read as text ({error}); give a config") from error
    source = str(path)
    if path.suffix == ".py":
        return python_calls.read(source, text)
    if path.suffix in (".yaml", ".yml", ".json"):
        return [_of_keys(source, _parsed(source, text, path.suffix))]
    return [flags.read(source, text, trainer)]


class _Once(yaml.SafeLoader):
    """YAML in which no key may stand twice: a trainer would take the last and say nothing."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in lines:
                raise _twice(key.value, f" (lines {lines[key.value]} and {key.start_mark.line + 1})")
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise _twice(twice[0])
    return dict(pairs)


def _twice(key: str, where: str = "") -> PlopError:
    return PlopError(f"it says {key} twice{where}, of which a trainer takes the last; leave one of them")


def _parsed(source: str, text: str, suffix: str) -> Any:
    kind = "JSON" if suffix == ".json" else "YAML"
    try:
        if kind == "JSON":
            return json.loads(text, object_pairs_hook=_pairs)
        return yaml.load(text, _Once)  # a SafeLoader
    except PlopError as error:
        raise PlopError(f"{source}: {error}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise PlopError(f"{source} is no {kind} ({reason}); mend it first") from error


def _of_keys(source: str, keys: Any) -> Wanted:
    if not isinstance(keys, Mapping) or not all(isinstance(key, str) for key in keys):
        raise PlopError(f"{source} holds no keys and values; give a trainer's config")
    whose = None if {"peft_type", "r"} & keys.keys() else trainer_of(keys)
    if whose is None and {"peft_type", "r", "target_modules", "target_parameters"} & keys.keys():
        return peft_config.read(source, keys)
    if whose is None:
        raise PlopError(f"{source} says nothing of LoRA that a trainer known here reads ({', '.join(READERS)})")
    return READERS[whose](source, keys)
