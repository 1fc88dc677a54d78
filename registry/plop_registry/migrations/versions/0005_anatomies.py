"""What models are made of, so that adapters are placed from the registry alone.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "anatomies",
        sa.Column("model_revision", sa.String, nullable=False),
        sa.Column("transformers", sa.String, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("model_revision", "transformers", name="pk_anatomies"),
    )
