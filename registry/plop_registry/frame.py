"""Runs as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError
from plop_registry.runs import Run

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped, unused-ignore] # its stubs are a package apart

_RUN_COLUMNS = {
    "run": "id",
    "created_at": "created_at",
    "name": "name",
    "model": "model_name",
    "revision": "model_revision",
    "label": "label_name",
    "architecture": "architecture",
    "dtype": "dtype",
    "task": "task_name",
    "samples": "samples",
    "tokens": "tokens",
}
_TYPE_COLUMNS = ("type", "modules", "nfn", "nfn_squared", "stderr", "recommended", "confidence")


def to_frame(runs: Iterable[Run]) -> DataFrame:
    """One row for each type of each run, in the order of `runs`; RegistryError where pandas is not installed.

    to_frame(registry.runs(task="gsm8k")).pivot(index="type", columns="model", values="nfn")
    """
    try:
        from pandas import DataFrame
    except ModuleNotFoundError as error:
        raise RegistryError("a table of runs needs pandas; pip install pandas") from error

    rows = [
        {column: getattr(run, field) for column, field in _RUN_COLUMNS.items()}
        | {column: getattr(score, column) for column in _TYPE_COLUMNS}
        for run in runs
        for score in run.types
    ]
    return DataFrame(rows, columns=[*_RUN_COLUMNS, *_TYPE_COLUMNS])
