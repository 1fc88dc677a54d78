"""What other methods say of models and runs: of weights by revision and precision, of activations by run.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "weight_opinions",
        sa.Column("model_revision", sa.String, nullable=False),
        sa.Column("precision", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("model_revision", "precision", "method", name="pk_weight_opinions"),
    )
    op.create_table(
        "run_opinions",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run", "method", name="pk_run_opinions"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_run_opinions_run_runs", ondelete="CASCADE"),
    )
