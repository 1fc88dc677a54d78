"""What a user can mend, as opposed to a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
