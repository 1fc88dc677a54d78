"""What makes a race that race, and adapters those adapters. Needs no torch."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from plop_cli.errors import PlopError
from plop_cli.placement.placement import Placement
from plop_cli.racing.examples import Data
from plop_cli.version import __version__
from plop_registry import Entry, Race, race_key
from plop_registry.runs import canonical

_PACKAGES = ("torch", "transformers", "peft", "numpy")


@dataclass(frozen=True, slots=True)
class Setting:
    """How each lap trains: `steps` of AdamW, of `batch` examples each. `size` is the wish that made the ranks."""

    steps: int = 60
    batch: int = 8
    dropout: float = 0.0
    size: str = ""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise PlopError(f"{self.steps} steps of {self.batch} examples are no training; give at least 1 of each")
        if not 0 <= self.dropout < 1:
            raise PlopError(f"--dropout is {self.dropout}; give at least 0 and less than 1")


def header(
    data: Data,
    setting: Setting,
    *,
    revision: str,
    name: str,
    label: str = "",
    architecture: str,
    dtype: str,
    device: str,
    **loaded: Any,
) -> Race:
    """A race that has not begun. Args: `loaded`, how else the model was loaded, where that can change a digit."""
    settings = {
        "steps": setting.steps,
        "batch": setting.batch,
        "dropout": setting.dropout,
        "size": setting.size,
        "dtype": dtype,
        **{name: value for name, value in loaded.items() if value is not None},
    }
    return Race(
        key=race_key(model_revision=revision, data_hash=data.hash, settings=settings),
        created_at=datetime.now(UTC),
        model_id=name,
        model_revision=revision,
        model_label=label,
        architecture=architecture,
        dtype=dtype,
        data_id=data.name,
        data_hash=data.hash,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        settings=settings,
        plop_version=__version__,
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        device=device,
    )


def entry(name: str, placement: Placement) -> Entry:
    """A contestant as it is kept."""
    return Entry(
        name=name,
        adapters=adapters_of(placement),
        types=tuple(sorted({module.type for module in placement.modules})),
        modules=len(placement.matched_modules),
        rank=placement.rank,
        alpha=placement.alpha,
        parameters=placement.trainable_parameters,
        config=placement.lora_arguments,
    )


def adapters_of(placement: Placement) -> str:
    """16 hex digits of a hash of where the adapters go and of what size they are: those train alike."""
    what = [sorted(placement.matched_modules), placement.rank, placement.alpha, placement.rslora]
    return hashlib.sha256(canonical(what).encode()).hexdigest()[:16]
