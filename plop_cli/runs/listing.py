"""Several stored runs as one value, which a notebook shows as the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from plop_registry import Run, to_frame
from plop_registry.shown import Shown

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped, unused-ignore] # its stubs are a package apart


@dataclass(frozen=True)
class Runs(Shown, Sequence[Run]):
    """Runs, newest first, without their modules, as a listing reads them."""

    runs: tuple[Run, ...]

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self.runs[index]) if isinstance(index, slice) else self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    def frame(self) -> DataFrame:
        """A row for each type of each run (`plop_registry.to_frame`); RegistryError where pandas is not installed."""
        return to_frame(self.runs)
