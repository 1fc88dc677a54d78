"""Races: contestants, and their trainings.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "races",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("model_revision", sa.String, nullable=False),
        sa.Column("model_label", sa.String, nullable=False),
        sa.Column("architecture", sa.String, nullable=False),
        sa.Column("dtype", sa.String, nullable=False),
        sa.Column("data_id", sa.String, nullable=False),
        sa.Column("data_hash", sa.String, nullable=False),
        sa.Column("train", sa.Integer, nullable=False),
        sa.Column("validation", sa.Integer, nullable=False),
        sa.Column("test", sa.Integer, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("nfn", sa.JSON, nullable=False),
        sa.Column("plop_version", sa.String, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("seal", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_races"),
        sa.UniqueConstraint("id", name="uq_races_id"),
    )
    op.create_table(
        "entries",
        sa.Column("race", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("adapters", sa.String, nullable=False),
        sa.Column("types", sa.JSON, nullable=False),
        sa.Column("modules", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("alpha", sa.Integer, nullable=False),
        sa.Column("parameters", sa.Integer, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("race", "position", name="pk_entries"),
        sa.ForeignKeyConstraint(["race"], ["races.number"], name="fk_entries_race_races", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "laps",
        sa.Column("race", sa.Integer, nullable=False),
        sa.Column("adapters", sa.String, nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("race", "adapters", "rate", "seed", "steps", name="pk_laps"),
        sa.ForeignKeyConstraint(["race"], ["races.number"], name="fk_laps_race_races", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
