"""Runs, what they scored, their scores and their sample matrices.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("revision", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("architecture", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint(
            "source", "revision", "label", "architecture", name="uq_models_source_revision_label_architecture"
        ),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("revision", sa.String, nullable=False),
        sa.Column("texts_hash", sa.String, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint(
            "source", "revision", "texts_hash", "samples", name="uq_tasks_source_revision_texts_hash_samples"
        ),
    )
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Integer, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("dtype", sa.String, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("plop_version", sa.String, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("confidence", sa.Float, nullable=True),
        sa.Column("skipped", sa.JSON, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_runs_model_models"),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], name="fk_runs_task_tasks"),
    )
    op.create_index("ix_runs_created_at_id", "runs", ["created_at", "id"])
    op.create_index("ix_runs_key_created_at_id", "runs", ["key", "created_at", "id"])
    op.create_index("ix_runs_model_created_at_id", "runs", ["model", "created_at", "id"])
    op.create_index("ix_runs_task_created_at_id", "runs", ["task", "created_at", "id"])
    op.create_table(
        "type_scores",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("modules", sa.Integer, nullable=False),
        sa.Column("nfn", sa.Float, nullable=True),
        sa.Column("nfn_squared", sa.Float, nullable=True),
        sa.Column("stderr", sa.Float, nullable=True),
        sa.Column("recommended", sa.Boolean, nullable=False),
        sa.Column("confidence", sa.Float, nullable=True),
        sa.PrimaryKeyConstraint("run", "type", name="pk_type_scores"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_type_scores_run_runs", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "module_scores",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("layer", sa.Integer, nullable=True),
        sa.Column("in_features", sa.Integer, nullable=False),
        sa.Column("out_features", sa.Integer, nullable=False),
        sa.Column("nfn", sa.Float, nullable=True),
        sa.Column("nfn_squared", sa.Float, nullable=True),
        sa.Column("stderr", sa.Float, nullable=True),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("run", "position", name="pk_module_scores"),
        sa.UniqueConstraint("run", "name", name="uq_module_scores_run_name"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_module_scores_run_runs", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sample_matrices",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_sample_matrices"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_sample_matrices_run_runs", ondelete="CASCADE"),
    )
