"""Where models, adapters and the files of tasks lay; "" where that is not known. What runs are called, and notes.

A frozen database of every released schema is in tests/schemas/ and must open. Never change a released migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("path", sa.String, nullable=False, server_default=""))
        models.add_column(sa.Column("adapter_path", sa.String, nullable=False, server_default=""))
        models.drop_constraint("uq_models_source_revision_label_architecture", type_="unique")
        models.create_unique_constraint(
            "uq_models_source_revision_label_architecture_path_adapter_path",
            ["source", "revision", "label", "architecture", "path", "adapter_path"],
        )
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(sa.Column("path", sa.String, nullable=False, server_default=""))
        tasks.drop_constraint("uq_tasks_source_revision_texts_hash_samples", type_="unique")
        tasks.create_unique_constraint(
            "uq_tasks_source_revision_texts_hash_samples_path",
            ["source", "revision", "texts_hash", "samples", "path"],
        )
    for name in ("name", "note"):
        op.add_column("runs", sa.Column(name, sa.String, nullable=False, server_default=""))
