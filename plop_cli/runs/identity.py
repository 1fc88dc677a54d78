"""What makes a run that run: which weights, which texts, which settings; and what it was made with."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plop_cli.files import expanded, is_there
from plop_cli.models.source import DEMO, ModelSource
from plop_cli.texts.presets import PRESETS, SAMPLES
from plop_cli.texts.tasks import Task
from plop_cli.version import __version__
from plop_registry import Run, run_key

if TYPE_CHECKING:
    from plop_cli.scoring.scores import NFNScores

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
"""Those that have a part in the digits of every run."""


@dataclass(frozen=True)
class Identity:
    """One model on one task, by what can change a digit: a run is found again by it, whoever makes it.

    `model_revision` pins the weights, `task` the texts that are really scored, and `settings` are those of
    `scoring.settings`. `model_id` and `model_label` are what people call the model and its revision. The rest is no
    part of the key: `places` says where model, adapter and the task's file lie, by the run's fields.
    """

    model_id: str
    model_label: str
    model_revision: str
    task: Task
    settings: dict[str, Any]
    places: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the registry finds the run by."""
        return run_key(
            model_revision=self.model_revision,
            task_id=self.task.id,
            task_revision=self.task.revision,
            texts_hash=self.task.texts_hash,
            settings=self.settings,
        )

    def run(self, scores: NFNScores, packages: Sequence[str] = ()) -> Run:
        """The run to store: these scores under this identity. `packages` had a part in the digits beside the usual."""
        return scores.as_run(
            key=self.key,
            settings=self.settings,
            model_id=self.model_id,
            model_label=self.model_label,
            model_revision=self.model_revision,
            task_id=self.task.id,
            task_revision=self.task.revision,
            texts_hash=self.task.texts_hash,
            **self.places,
            plop_version=__version__,
            versions={"python": platform.python_version()} | {name: version(name) for name in (*_PACKAGES, *packages)},
        )

    def names(self, run: Run) -> bool:
        """Whether a run of this key is called so, as far as it is known where what was scored lay."""
        if (run.model_id, run.model_label) != (self.model_id, self.model_label):
            return False
        return all(getattr(run, name) in ("", place) for name, place in self.places.items() if place)

    def called(self, run: Run) -> Run:
        """A run of this key as one that was asked for now, by these names; what was said of it is not said of this."""
        named = replace(run, model_id=self.model_id, model_label=self.model_label, created_at=datetime.now(UTC))
        return replace(named, id="", name="", note="", aliases={}, **self.places)


def places(source: ModelSource, task: str) -> dict[str, Any]:
    """Where a model lies that is no hub's and no package's, its adapter, and the file or folder of TASK, if it is one.

    A checkpoint is found by its own path alone, which names its base: it has no path of an adapter.
    """
    local = source.folder is not None and source.id != DEMO and not source.offline
    model = resolved(source.folder / (source.gguf_file or "")) if local and source.folder else ""
    adapter = resolved(source.adapters[-1]) if source.adapters else ""
    if len(source.adapters) > 1:  # the one below names its base
        model = resolved(source.adapters[-2])
    if adapter and source.label.startswith("checkpoint-"):
        model, adapter = adapter, ""
    return {"model_path": model, "adapter_path": adapter, "task_path": _file(task)}


def resolved(path: Path) -> str:
    """An absolute path whose links are resolved, written with slashes."""
    return path.resolve().as_posix()


def _file(task: str) -> str:
    """The path of TASK, with its split if it is `folder@split`; "" for what is no file here."""
    if task in PRESETS or task in SAMPLES or task == "-":
        return ""
    folder, at, split = task.rpartition("@")
    for name, rest in ((task, ""), (folder, at + split)):
        if name and is_there(path := expanded(name)):
            return resolved(path) + rest
    return ""
