"""A seal for each run, by which listings verify it; NULL until `Writer.seal` has verified the run by its id.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("runs", sa.Column("seal", sa.String, nullable=True))
