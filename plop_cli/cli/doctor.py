"""`plop doctor`: does everything work here? Nothing is made, and no secret is printed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from plop_cli.cli.env import masked, set_here, version
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.errors import PlopError
from plop_cli.progress import says
from plop_cli.words import counted, listed

_EXTRAS = {
    "peft": "PEFT adapters and plop race",
    "quant": "--load-in, and checkpoints that are quantized",
    "postgres": "a registry on PostgreSQL",
}
"""What the optional packages are for."""

_LEAST = 100e6
"""Bytes without which nothing can be stored."""


class State(StrEnum):
    ok = "ok"
    warning = "warning"
    failed = "failed"


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do where all is not well."""

    state: State
    found: str
    remedy: str = ""


def doctor(context: typer.Context, format: FormatOption = Format.table, registry: RegistryOption = None) -> None:
    """Check that everything works here, and say what to do where it does not. Exits 1 where something failed."""
    from plop_cli.tables.doctor import doctor_table

    checks = {
        "settings": _settings(context.find_root().command),
        "packages": _packages(),
        "extras": _extras(),
        "registry": _registry(registry),
        "space": _space(registry),
        "hub": _hub(),
        "device": _device(),
        "report": _report(),
        "demo": _demo(),
    }
    rows: list[dict[str, Any]] = [
        {"check": name, "state": each.state.value, "found": each.found, "remedy": each.remedy}
        for name, findings in checks.items()
        for each in findings
    ]
    healthy = all(row["state"] != State.failed for row in rows)
    emit(
        format,
        table=lambda width: doctor_table(rows, width=width),
        document=lambda: {"healthy": healthy, "checks": rows},
        rows=lambda: rows,
    )
    if not healthy:
        raise typer.Exit(1)


def _settings(group: Any) -> Iterator[Finding]:
    try:
        places = list(dict.fromkeys(each["from"] for each in set_here(group).values()))
    except PlopError as error:
        yield _failed(error)
    else:
        yield Finding(State.ok, f"from {listed(places)}" if places else "none")


def _packages() -> Iterator[Finding]:
    wrong = [finding for need in _requirements() if (finding := _package(need)).state is not State.ok]
    known = listed([f"{name} {version(name)}" for name in ("torch", "transformers")])
    yield from wrong or [Finding(State.ok, f"{known}, and all others that are needed")]


def _extras() -> Iterator[Finding]:
    for extra, purpose in _EXTRAS.items():
        for need in _requirements(extra):
            if version(need.name) is None:
                remedy = f"pip install 'plop-cli[{extra}]' for {purpose}"
                yield Finding(State.warning, f"{need.name} is not installed", remedy)
            else:
                yield _package(need, f"for {purpose}")


def _requirements(extra: str = "") -> list[Any]:
    """What plop-cli requires, or what the extra adds to that."""
    from importlib import metadata

    from packaging.requirements import Requirement

    needs = [Requirement(text) for text in metadata.requires("plop-cli") or ()]
    if not extra:
        return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [need for need in needs if need.marker and f'"{extra}"' in str(need.marker)]


def _package(need: Any, purpose: str = "") -> Finding:
    found = version(need.name)
    if found is None or not need.specifier.contains(found, prereleases=True):
        fact = "is not installed" if found is None else f"is {found}, not {need.specifier}"
        return Finding(State.failed, f"{need.name} {fact}", f"pip install '{need.name}{need.specifier}'")
    return Finding(State.ok, f"{need.name} {found} {purpose}".rstrip())


def _registry(url: str | None) -> Iterator[Finding]:
    from plop_registry import Registry, RegistryError

    says("opening the registry")
    try:
        with Registry(url) as store:
            status = store.status()
            if status["schema"]:
                store.check_writable()
            elif store.path and not _may_write(_nearest(store.path.parent)):
                raise RegistryError(
                    f"no registry can be made at {store.url}; give a writable path (--registry, $PLOP_REGISTRY)"
                )
    except RegistryError as error:  # it never holds a password
        yield _failed(error)
    else:
        told = f"{counted(status['runs'], 'run')}, schema {status['schema']}, can be written"
        yield Finding(State.ok, f"{status['url']}: {told if status['schema'] else 'none yet, plop score makes it'}")


def _space(url: str | None) -> Iterator[Finding]:
    from huggingface_hub import constants

    from plop_registry import Registry, RegistryError

    try:
        path = Registry(url).path
    except RegistryError:
        path = None
    if path:
        yield _room(path.parent, "the registry", 1e9, "free some, or give another --registry")
    yield _room(Path(constants.HF_HUB_CACHE), "models", 10e9, "free some, or set $HF_HOME to a larger disk")


def _room(place: Path, what: str, wanted: float, remedy: str) -> Finding:
    folder = _nearest(place)
    if not _may_write(folder):
        return Finding(State.failed, f"{folder}, for {what}, cannot be written", "make it a writable folder")
    free = shutil.disk_usage(folder).free
    state = State.ok if free >= wanted else State.warning if free >= _LEAST else State.failed
    return Finding(state, f"{free / 1e9:,.1f} GB free for {what} ({folder})", "" if state is State.ok else remedy)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above that there is."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def _may_write(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _hub() -> Iterator[Finding]:
    from plop_cli import hub

    answer = hub.answer()
    place = masked(answer.endpoint)
    if answer.switched_off:
        yield Finding(State.ok, "not asked, as $HF_HUB_OFFLINE says; the cache is used")
    elif answer.problem:
        remedy = "check the connection, a proxy and $HF_ENDPOINT; what is in the cache is used, as are demo and files"
        yield Finding(State.warning, f"{place} {answer.problem}", remedy)
    else:
        known = "logged in" if answer.logged_in else "nobody is logged in (hf auth login), which closed models need"
        yield Finding(State.ok, f"{place} answers; {known}")


def _device() -> Iterator[Finding]:
    from plop_cli.models.devices import accelerator_possible

    if not accelerator_possible():
        yield Finding(State.ok, f"the CPU, {counted(os.cpu_count() or 1, 'core')}; no GPU's driver is here")
        return
    says("importing torch")
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            yield Finding(State.ok, f"cuda:{index}, {name}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    elif torch.backends.mps.is_available():
        yield Finding(State.ok, "mps")
    else:
        remedy = "install the torch that fits the driver (pytorch.org), or look at $CUDA_VISIBLE_DEVICES"
        yield Finding(State.warning, f"torch {torch.__version__} finds no GPU; the CPU is used", remedy)


def _report() -> Iterator[Finding]:
    says("looking for the report's templates")
    from jinja2 import TemplateNotFound

    from plop_cli.report.page import templates

    try:
        templates().get_template("page.html.j2")
    except TemplateNotFound as error:
        yield Finding(State.failed, f"the report's template {error} is missing", "install plop-cli anew")
    else:
        yield Finding(State.ok, "its templates are here")


def _demo() -> Iterator[Finding]:
    from plop_cli.models.source import demo_file

    try:
        yield Finding(State.ok, f"the model demo is here ({demo_file().name})")
    except PlopError as error:
        yield _failed(error, State.warning)


def _failed(error: Exception, state: State = State.failed) -> Finding:
    """Messages are a fact and, after the last semicolon, the remedy."""
    found, _, remedy = str(error).rpartition("; ")
    return Finding(state, found or remedy, remedy if found else "")
