"""The tables. Runs point to the model and the task they scored; everything of a run goes when the run goes, and so
everything of a race.

Blobs have a table of their own, so that listing runs never reads them. Columns are named like the fields of the values
in `runs.py` and `races.py`, where they are explained. A change here needs a migration; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Index, LargeBinary, MetaData, Table, TypeDecorator
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, UniqueConstraint

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in and out, microseconds kept; SQLite, which knows no time zones, holds UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMING))):
    """Metadata of its own, apart from whatever else the process keeps in SQLModel."""


_EMPTY: Any = Field(default="", sa_column_kwargs={"server_default": ""})


class MetaRow(Base, table=True):
    """`plop_version`, the first plop that knows this schema. Older ones ask for it here, so every schema has this."""

    __tablename__ = "meta"

    name: str = Field(primary_key=True)
    value: str


class ModelRow(Base, table=True):
    """A model at one revision, in one place. `source` is the run's model_id."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("source", "revision", "label", "architecture", "path", "adapter_path"),)

    id: int | None = Field(default=None, primary_key=True)
    source: str
    revision: str
    label: str
    architecture: str
    path: str = _EMPTY
    adapter_path: str = _EMPTY


class TaskRow(Base, table=True):
    """The very texts that were scored. `source` is the run's task_id."""

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("source", "revision", "texts_hash", "samples", "path"),)

    id: int | None = Field(default=None, primary_key=True)
    source: str
    revision: str
    texts_hash: str
    samples: int
    path: str = _EMPTY


class RunRow(Base, table=True):
    """One run; `number` is what the tables below refer to, `id` is the hash that people see.

    `seal` is `seal_of` the run; NULL where it was found damaged when seals came.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("id"),
        Index(None, "created_at", "id"),
        Index(None, "key", "created_at", "id"),
        Index(None, "model", "created_at", "id"),
        Index(None, "task", "created_at", "id"),
    )

    number: int | None = Field(default=None, primary_key=True)
    id: str
    key: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    model: int = Field(foreign_key="models.id")
    task: int = Field(foreign_key="tasks.id")
    dtype: str
    tokens: int
    settings: dict[str, Any] = Field(sa_type=JSON)
    plop_version: str
    versions: dict[str, str] = Field(sa_type=JSON)
    device: str
    duration: float
    confidence: float | None
    skipped: list[dict[str, str]] = Field(sa_type=JSON)
    warnings: list[str] = Field(sa_type=JSON)
    parts: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)
    seal: str | None = None
    name: str = _EMPTY
    note: str = _EMPTY


class TypeRow(Base, table=True):
    """A type's score in one run: stored, so that a listing reads 7 rows and not 210."""

    __tablename__ = "type_scores"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run: int = Field(primary_key=True, foreign_key="runs.number", ondelete="CASCADE")
    type: str = Field(primary_key=True)
    modules: int
    nfn: float | None
    nfn_squared: float | None
    stderr: float | None
    recommended: bool
    confidence: float | None


class ModuleRow(Base, table=True):
    """A module's score in one run; `position` is its column in the sample matrix."""

    __tablename__ = "module_scores"
    __table_args__ = (UniqueConstraint("run", "name"), {"sqlite_with_rowid": False})

    run: int = Field(primary_key=True, foreign_key="runs.number", ondelete="CASCADE")
    position: int = Field(primary_key=True)
    name: str
    type: str
    layer: int | None
    in_features: int
    out_features: int
    nfn: float | None
    nfn_squared: float | None
    stderr: float | None
    tokens: int


class MatrixRow(Base, table=True):
    """A run's packed `SampleMatrix`, and the hash of what is in it."""

    __tablename__ = "sample_matrices"

    run: int = Field(primary_key=True, foreign_key="runs.number", ondelete="CASCADE")
    sha256: str
    packed: bytes = Field(sa_type=LargeBinary)


class AnatomyRow(Base, table=True):
    """What a model is made of, as the transformers of this version builds it: a packed `Anatomy`."""

    __tablename__ = "anatomies"

    model_revision: str = Field(primary_key=True)
    transformers: str = Field(primary_key=True)
    packed: bytes = Field(sa_type=LargeBinary)


class RevisionRow(Base, table=True):
    """What the weights of this revision were called before: a `Former`."""

    __tablename__ = "revisions"

    revision: str = Field(primary_key=True)
    former: str
    former_adapter: str | None = None


class WeightOpinionRow(Base, table=True):
    """What a method says of the weights of this revision at this precision: a packed `Opinion`."""

    __tablename__ = "weight_opinions"

    model_revision: str = Field(primary_key=True)
    precision: str = Field(primary_key=True)
    method: str = Field(primary_key=True)
    packed: bytes = Field(sa_type=LargeBinary)


class RunOpinionRow(Base, table=True):
    """What a method says of the activations of a run: a packed `Opinion`."""

    __tablename__ = "run_opinions"

    run: int = Field(primary_key=True, foreign_key="runs.number", ondelete="CASCADE")
    method: str = Field(primary_key=True)
    packed: bytes = Field(sa_type=LargeBinary)


class RaceRow(Base, table=True):
    """A race; `number` is what the tables below refer to, `id` is the hash that people see.

    `seal` is a hash of all that is stored of it, entries and laps included.
    """

    __tablename__ = "races"
    __table_args__ = (UniqueConstraint("id"),)

    number: int | None = Field(default=None, primary_key=True)
    id: str
    key: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    model_id: str
    model_revision: str
    model_label: str
    architecture: str
    dtype: str
    data_id: str
    data_hash: str
    train: int
    validation: int
    test: int
    settings: dict[str, Any] = Field(sa_type=JSON)
    nfn: dict[str, float] = Field(sa_type=JSON)
    plop_version: str
    versions: dict[str, str] = Field(sa_type=JSON)
    device: str
    seal: str


class EntryRow(Base, table=True):
    """A contestant of a race."""

    __tablename__ = "entries"
    __table_args__ = ({"sqlite_with_rowid": False},)

    race: int = Field(primary_key=True, foreign_key="races.number", ondelete="CASCADE")
    position: int = Field(primary_key=True)
    name: str
    adapters: str
    types: list[str] = Field(sa_type=JSON)
    modules: int
    rank: int
    alpha: int
    parameters: int
    config: dict[str, Any] = Field(sa_type=JSON)


class LapRow(Base, table=True):
    """A training in a race, with its losses packed (`Lap.raw`), and the hash of what is in it."""

    __tablename__ = "laps"
    __table_args__ = ({"sqlite_with_rowid": False},)

    race: int = Field(primary_key=True, foreign_key="races.number", ondelete="CASCADE")
    adapters: str = Field(primary_key=True)
    rate: float = Field(primary_key=True)
    seed: int = Field(primary_key=True)
    steps: int = Field(primary_key=True)
    seconds: float
    sha256: str
    packed: bytes = Field(sa_type=LargeBinary)


def _table(row: type[Base]) -> Table:
    return Base.metadata.tables[str(row.__tablename__)]


META, MODELS, TASKS, RUNS = _table(MetaRow), _table(ModelRow), _table(TaskRow), _table(RunRow)
TYPE_SCORES, MODULE_SCORES, SAMPLE_MATRICES = _table(TypeRow), _table(ModuleRow), _table(MatrixRow)
ANATOMIES, REVISIONS = _table(AnatomyRow), _table(RevisionRow)
WEIGHT_OPINIONS, RUN_OPINIONS = _table(WeightOpinionRow), _table(RunOpinionRow)
RACES, ENTRIES, LAPS = _table(RaceRow), _table(EntryRow), _table(LapRow)
