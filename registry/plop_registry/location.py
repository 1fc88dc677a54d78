"""Where a registry is: an SQLite file or a PostgreSQL database. A plain path is understood without SQLAlchemy."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError

if TYPE_CHECKING:
    from sqlalchemy import URL

_NO_PATH = re.compile(
    r"""[a-z][\w+.-]+:            # postgresql:… and user:password@…; one letter is a drive of Windows
    | [^/.~].*:.*@              # user:password@host/database
    | //.*@                     # a URL without its beginning
    | [^/]*\b\w*(host|hostaddr|port|user|\w*pass\w*|pwd|dbname|service)\s*=  # words of a connection string
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HARMLESS = {"host", "hostaddr", "port", "dbname", "options", "sslmode", "connect_timeout", "application_name"}
"""The parameters of a URL whose values are shown: a password may be in any other, misspelt."""


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

    def hide(self, text: str) -> str:
        """`text`, in which a server may repeat what it was sent, without passwords."""
        if self.url is None:
            return text
        given = [values for name, values in self.url.normalized_query.items() if "pass" in name]
        secrets = [str(self.url.password or ""), *(value for values in given for value in values)]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def locate(url: str | Path | None = None) -> Location:
    """The place that a path, `sqlite:///path` or `postgresql://user@host/database` names; None is `default_url()`.

    Raises RegistryError for what is none of these; no part of it is in the message, since it may be the password.
    """
    try:
        text = default_url() if url is None else os.fspath(url)
    except RuntimeError:
        raise RegistryError("there is no home folder for a registry; give --registry or $PLOP_REGISTRY") from None
    scheme, is_url, rest = text.partition("://")
    scheme = scheme.lower()
    if is_url and scheme.partition("+")[0] in ("postgresql", "postgres"):
        return _server(text)
    if is_url and scheme in ("sqlite", "sqlite+pysqlite"):
        return _file(rest.removeprefix("/"))
    if is_url or (isinstance(url, str | None) and _NO_PATH.match(text)):
        raise RegistryError(
            "a registry is an SQLite file or a PostgreSQL database; give a path (./NAME where NAME has = or : in it) "
            "or postgresql://user:password@host/database"
        )
    return _file(text)


def _file(text: str) -> Location:
    if text in ("", ":memory:") or "\0" in text:
        raise RegistryError("a registry needs a file; give its path")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        raise RegistryError(
            f"{text} begins with a home folder that does not exist; give the whole path (--registry, $PLOP_REGISTRY)"
        ) from None
    return Location(path, None, str(path))


def _server(text: str) -> Location:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        scheme, _, rest = text.partition("://")
        parsed = make_url(f"{scheme.lower()}://{rest}").set(drivername="postgresql+psycopg")
        if re.search(r"[@#;=\s]", f"{parsed.host}{parsed.database}"):  # the rest of a password that was not encoded
            raise ValueError
    except (ArgumentError, ValueError):  # their messages quote the URL
        raise RegistryError(
            "the registry's URL cannot be read; write postgresql://user:password@host/database, with special "
            "characters of the password percent-encoded"
        ) from None
    secrets = {name: "hidden" for name in parsed.query if name not in _HARMLESS}
    return Location(None, parsed, parsed.update_query_dict(secrets).render_as_string(hide_password=True))
