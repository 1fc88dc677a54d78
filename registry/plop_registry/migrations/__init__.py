"""Schema changes, run by `database.py` when a registry is opened. Append only: a released migration never changes."""

SCHEMAS = dict.fromkeys(("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008"), "0.1.0")
"""Every schema revision and the first plop that knows it."""

HEAD = max(SCHEMAS)

VERSION_TABLE = "plop_schema"  # not Alembic's default name, which another program may use in the same database
