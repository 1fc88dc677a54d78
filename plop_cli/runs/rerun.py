"""The command that would score a run again, to the same digits.

Device and batch size are left to the machine that runs it: they move a score by rounding only.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from plop_cli.models.quantization import LOAD_IN
from plop_cli.texts.formats import format_of
from plop_registry import Registry, Run
from plop_registry.location import locate

_LOAD_IN = {name: wanted for wanted, name in LOAD_IN.items()}
"""A checkpoint may be quantized to these already; `plop score` then says to leave the option out."""


def command(run: Run, *, paths: bool = True) -> str:
    """A line for the shell.

    Without `paths`, for the eyes of others, a folder or file is called by its name alone; so are those of older runs,
    of which no more is known.
    """
    model, adapter, file = (run.model_path, run.adapter_path, run.task_path) if paths else ("", "", "")
    words = ["plop", "score", model or _model(run), *_task(run.task_id, file)]
    for name in ("samples", "max_length", "seed", "dtype"):
        if (value := run.settings.get(name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if run.settings.get("chat"):
        words.append("--chat")
    if on := run.settings.get("on"):
        words += ["--on", str(on)]
    if run.settings.get("skip_bad"):
        words.append("--skip-bad")
    if load_in := _LOAD_IN.get(str(run.settings.get("quantization"))):
        words += ["--load-in", load_in]
    if run.settings.get("adapter") and not _is_checkpoint(run):
        words += ["--adapter", adapter or run.model_label]
    for tower in run.settings.get("include", ()):
        words += ["--include", tower]
    return shlex.join(words)


def at(registry: Registry) -> list[str]:
    """The option that names this registry in a command, without its password; nothing for the default one."""
    return [] if registry.url == locate().shown else ["--registry", registry.url]


def _model(run: Run) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", run.model_revision):  # a commit; files have a longer hash
        return f"{run.model_id}@{run.model_revision}"
    return f"{run.model_id}/{run.model_label}" if _is_checkpoint(run) else run.model_id


def _is_checkpoint(run: Run) -> bool:
    return run.model_label.startswith("checkpoint-")


def _task(task: str, path: str) -> list[str]:
    """The id of a file, folder or pipe is NAME, NAME:COLUMN or NAME:TEMPLATE; every other id is what --task takes."""
    name, _, how = task.partition(":")
    if path:
        name, how = path, task.removeprefix(path.rpartition("/")[2]).removeprefix(":")
    elif not how or ("/" in name and not format_of(Path(name))):
        return ["--task", task]
    if not how:
        return ["--task", name]
    if "{" in how:
        return ["--task", name, "--template", how.replace("\\", r"\\")]  # which the option decodes
    return ["--task", name, "--column", how]
