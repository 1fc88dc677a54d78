"""Where a registry is: an SQLite file or a PostgreSQL database. A plain path is understood without SQLAlchemy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError

if TYPE_CHECKING:
    from sqlalchemy import URL


def default_url() -> str:
    """$PLOP_REGISTRY, else registry.db in the user's data folder (~/.local/share/plop on Linux)."""
    from platformdirs import user_data_dir

    return os.environ.get("PLOP_REGISTRY") or str(Path(user_data_dir("plop"), "registry.db"))


@dataclass(frozen=True)
class Location:
    """Either `path`, an SQLite file, or `url`, a PostgreSQL database. `shown` is it without passwords, for people."""

    path: Path | None
    url: URL | None
    shown: str

    @property
    def missing(self) -> bool:
        """Whether there is no such file. A file that may not be seen is not missing, nor is a server."""
        if self.path is None:
            return False
        try:
            self.path.stat()
        except OSError as error:
            return isinstance(error, FileNotFoundError | NotADirectoryError)
        return False


def locate(url: str | Path | None = None) -> Location:
    """The place that a path, `sqlite:///path` or `postgresql://user@host/database` names; None is `default_url()`.

    Raises RegistryError for what is none of these; no part of the URL is in its message, since it may be the password.
    """
    text = default_url() if url is None else os.fspath(url)
    scheme, is_url, rest = text.partition("://")
    if not is_url or scheme in ("sqlite", "sqlite+pysqlite"):
        file = rest.removeprefix("/") if is_url else text
        if file in ("", ":memory:"):
            raise RegistryError("a registry needs a file; give its path")
        path = Path(file).expanduser().absolute()
        return Location(path, None, str(path))
    if scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise RegistryError("a registry is an SQLite file or a PostgreSQL database; give a path or postgresql://…")

    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(text).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):  # their messages quote the URL
        raise RegistryError(
            "the registry's URL cannot be read; write postgresql://user:password@host/database, with special "
            "characters of the password percent-encoded"
        ) from None
    secrets = {name: "hidden" for name in parsed.query if "password" in name}
    return Location(None, parsed, parsed.update_query_dict(secrets).render_as_string(hide_password=True))
