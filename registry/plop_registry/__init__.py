"""The run registry: plain runs in, plain runs out, kept in SQLite or PostgreSQL. Needs neither torch nor transformers.

    from plop_registry import Registry

    with Registry() as registry:
        registry.runs(model="*SmolLM2*")

Importing it is cheap: its parts come when a name below is first used, SQLAlchemy, NumPy and Alembic when needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plop_registry.anatomy import Anatomy as Anatomy
    from plop_registry.anatomy import Shape as Shape
    from plop_registry.errors import RegistryError as RegistryError
    from plop_registry.frame import to_frame as to_frame
    from plop_registry.location import default_url as default_url
    from plop_registry.matrix import SampleMatrix as SampleMatrix
    from plop_registry.opinions import ModuleValue as ModuleValue
    from plop_registry.opinions import Opinion as Opinion
    from plop_registry.races import Entry as Entry
    from plop_registry.races import Lap as Lap
    from plop_registry.races import Race as Race
    from plop_registry.races import race_key as race_key
    from plop_registry.revisions import Former as Former
    from plop_registry.runs import ModuleScore as ModuleScore
    from plop_registry.runs import PartScore as PartScore
    from plop_registry.runs import Run as Run
    from plop_registry.runs import Skipped as Skipped
    from plop_registry.runs import TypeScore as TypeScore
    from plop_registry.runs import run_key as run_key
    from plop_registry.store import Registry as Registry

_HOME = {
    "Anatomy": "anatomy",
    "Entry": "races",
    "Former": "revisions",
    "Lap": "races",
    "ModuleScore": "runs",
    "ModuleValue": "opinions",
    "Opinion": "opinions",
    "PartScore": "runs",
    "Race": "races",
    "Registry": "store",
    "RegistryError": "errors",
    "Run": "runs",
    "SampleMatrix": "matrix",
    "Shape": "anatomy",
    "Skipped": "runs",
    "TypeScore": "runs",
    "default_url": "location",
    "race_key": "races",
    "run_key": "runs",
    "to_frame": "frame",
}

__all__ = [
    "Anatomy",
    "Entry",
    "Former",
    "Lap",
    "ModuleScore",
    "ModuleValue",
    "Opinion",
    "PartScore",
    "Race",
    "Registry",
    "RegistryError",
    "Run",
    "SampleMatrix",
    "Shape",
    "Skipped",
    "TypeScore",
    "default_url",
    "race_key",
    "run_key",
    "to_frame",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
