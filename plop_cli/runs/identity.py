"""What makes a run that run: which weights, which texts, which settings; and what it was made with."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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
    `scoring.settings`. `model_id` and `model_label` are what people call the model and its revision.
    """

    model_id: str
    model_label: str
    model_revision: str
    task: Task
    settings: dict[str, Any]

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
            plop_version=__version__,
            versions={"python": platform.python_version()} | {name: version(name) for name in (*_PACKAGES, *packages)},
        )
