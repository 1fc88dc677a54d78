"""`plop env`: what a bug report needs, and which settings hold. No token and no password is in it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from plop_cli.cli import panels
from plop_cli.cli.console import print_json, say
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.settings import Setting, settings
from plop_cli.errors import PlopError
from plop_cli.version import __version__

_PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "huggingface_hub", "safetensors", "numpy", "sqlmodel"),
    *("typer", "altair", "peft", "bitsandbytes", "torchao", "psycopg"),
)
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "NO_COLOR")


def env(
    context: typer.Context,
    json: Annotated[bool, panels.output("--json", help="As one JSON object.")] = False,
    registry: RegistryOption = None,
) -> None:
    """Print versions, memory, the registry and the settings, for a bug report; no secrets."""
    found = {
        "plop": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in _PACKAGES},
        "machine": _machine(),
        "registry": _registry(registry),
        "environment": {name: masked(os.environ[name]) for name in _VARIABLES if name in os.environ},
        "settings": _settings(context.find_root().command),
    }
    if json:
        print_json(found)
        return
    for name, value in found.items():
        for line in _lines(name, value):
            say(line)


def _lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{name}:" if value else f"{name}: none"
        for key, each in value.items():
            shown = f"{each['value']} ({each['from']})" if isinstance(each, Mapping) else each
            yield f"  {key}: {'–' if shown is None else shown}"
    else:
        yield f"{name}: {value}"


def version(package: str) -> str | None:
    """The version of an installed package, None of another."""
    from importlib import metadata  # takes 20 ms, which completion would wait for

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    import psutil

    memory = psutil.virtual_memory()
    return {
        "processors": os.cpu_count(),
        "memory_bytes": memory.total,
        "free_bytes": memory.available,
        "executable": sys.executable,
    }


def _registry(url: str | None) -> dict[str, Any]:
    from plop_registry import Registry, RegistryError

    try:
        with Registry(url) as store:
            status = store.status()
    except RegistryError as error:  # it never holds a password
        return {"error": str(error)}
    return {name: status[name] for name in ("url", "schema", "head", "runs")}


def _settings(group: Any) -> dict[str, Any]:
    try:
        return set_here(group)
    except PlopError as error:
        return {"error": str(error)}


def set_here(group: Any) -> dict[str, dict[str, Any]]:
    """Every setting's value and where it is from, by "command.option". PlopError for what is no setting."""
    return dict(_flat(settings(group)))


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in found.items():
        if isinstance(each, Setting):
            shown = masked(each.value) if isinstance(each.value, str) else each.value
            yield before + name, {"value": shown, "from": each.origin}
        else:
            yield from _flat(each, f"{before}{name}.")


def masked(text: str) -> str:
    """Without what could be a password: all of a URL between its scheme and its host, and its parameters."""
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return text
    place = rest.partition("?")[0]
    return f"{scheme}://{'***@' if '@' in place else ''}{place.rpartition('@')[2]}"
