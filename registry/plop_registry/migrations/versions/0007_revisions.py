"""The two names of a revision: by BLAKE3, and by SHA-256 as it was called before.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "revisions",
        sa.Column("revision", sa.String, nullable=False),
        sa.Column("former", sa.String, nullable=False),
        sa.Column("former_adapter", sa.String, nullable=True),
        sa.PrimaryKeyConstraint("revision", name="pk_revisions"),
    )
