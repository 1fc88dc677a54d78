"""What a user can mend, as opposed to a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec


class PlopError(Exception):
    """Bad input or a missing thing. The message states the fact, then the remedy, and fits one line.

    The command line prints it on stderr and exits 1; bugs keep their traceback.
    """


def no_such(what: str, name: str, known: Iterable[str]) -> PlopError:
    """The error for a name that is not among the `known`: the nearest of them, or all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return PlopError(
        f"no {what} {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names)}")
    )


_EXTRAS = {"peft": "peft", "bitsandbytes": "quant", "torchao": "quant"}


def require(package: str, what: str, *, extra: str | None = None) -> None:
    """Raise PlopError, naming the extra that brings it, where `what` needs a package that is not installed."""
    if find_spec(package) is None:
        extra = extra or _EXTRAS[package]
        raise PlopError(f"{what} needs {package}, which is not installed; pip install 'plop-cli[{extra}]'")
