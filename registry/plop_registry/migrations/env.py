"""Alembic's entry point. `database.py` calls it with an open connection, inside the transaction that upgrades."""

from alembic import context

from plop_registry.migrations import VERSION_TABLE
from plop_registry.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
