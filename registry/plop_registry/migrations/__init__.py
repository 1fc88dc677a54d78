"""Schema changes, run by `database.py` when a registry is opened. Append only: a released migration never changes."""

SCHEMAS = {"0001": "0.1.0", "0002": "0.1.0", "0003": "0.1.0", "0004": "0.1.0", "0005": "0.1.0", "0006": "0.1.0"}
"""Every schema revision and the first plop that knows it."""

HEAD = max(SCHEMAS)

VERSION_TABLE = "plop_schema"  # not Alembic's default name, which another program may use in the same database
