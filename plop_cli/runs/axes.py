"""What runs are told apart by: their model, its revision, the task, the dtype. Neither NumPy nor torch is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from plop_cli.printable import short
from plop_registry import Run

AXES: dict[str, Callable[[Run], str]] = {
    "model": lambda run: run.model_name,
    "revision": lambda run: run.label_name or run.model_revision[:8],
    "task": lambda run: run.task_name,
    "dtype": lambda run: str(run.settings.get("quantization") or run.dtype),
}
"""Each axis and a run's value on it, as people call it."""

OF_WEIGHTS = ("model", "revision", "dtype")
"""Those that tell weights apart."""


def first_difference(runs: Sequence[Run]) -> str:
    """The axis that tells these runs apart; "run" where none does."""
    return next((axis for axis, value_of in AXES.items() if len(set(map(value_of, runs))) > 1), "run")


def names(runs: Sequence[Run], by: str) -> list[str]:
    """A name for each run: its value on the axis `by`, and of the other axes as much as tells the runs apart."""
    others = [value for axis, value in AXES.items() if axis != by]
    more: list[Callable[[Run], str]] = [*others, lambda run: run.model_revision[:8], lambda run: run.id[:8]]
    called = [AXES[by](run) if by in AXES else "" for run in runs]
    for values in ([value(run) for run in runs] for value in more):
        if len(set(called)) < len(runs) and len(set(values)) > 1:
            called = [f"{name} {value}".strip() for name, value in zip(called, values, strict=True)]
    return list(map(short, called))


def in_training_order(runs: Sequence[Run]) -> list[Run]:
    """Runs of one model, first checkpoint first: by step where labels differ in numbers alone, else by time scored."""
    numbers = [[int(number) for number in re.findall(r"\d+", run.model_label)] for run in runs]
    steps = all(numbers) and len({re.sub(r"\d+", "#", run.model_label) for run in runs}) == 1
    keys = [(step if steps else [], run.created_at, run.id) for step, run in zip(numbers, runs, strict=True)]
    return [run for _, run in sorted(zip(keys, runs, strict=True), key=lambda pair: pair[0])]
