"""The run registry: plain runs in, plain runs out, kept in SQLite or PostgreSQL. Needs neither torch nor transformers.

    from plop_registry import Registry

    with Registry() as registry:
        registry.runs(model="*SmolLM2*")

Importing it is cheap: SQLAlchemy, NumPy and Alembic come when they are needed.
"""

from plop_registry.errors import RegistryError
from plop_registry.frame import to_frame
from plop_registry.location import default_url
from plop_registry.matrix import SampleMatrix
from plop_registry.races import Entry, Lap, Race, race_key
from plop_registry.runs import ModuleScore, PartScore, Run, Skipped, TypeScore, run_key
from plop_registry.store import Registry

__all__ = [
    "Entry",
    "Lap",
    "ModuleScore",
    "PartScore",
    "Race",
    "Registry",
    "RegistryError",
    "Run",
    "SampleMatrix",
    "Skipped",
    "TypeScore",
    "default_url",
    "race_key",
    "run_key",
    "to_frame",
]
