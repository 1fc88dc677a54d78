"""What a user can mend, as opposed to a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec


class PlopError(Exception):
    """Bad input or a missing thing. The message states the fact, then the remedy, and fits one line.

    The command line prints it on stderr and exits 1; bugs keep their traceback.
    """


def no_such(what: str, name: str, known: Iterable[str]) -> PlopError:
    """The error for a name that is not among the `known`: those that mean nearly the same, or all."""
    names = sorted(known)
    near = nearest(name, names)
    return PlopError(
        f"no {what} {name!r}; "
        + (f"did you mean {' or '.join(map(repr, near))}?" if near else f"there is {', '.join(names)}")
    )


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The known names that end in `name`, or in which it ends (gate_proj, mlp.gate_proj); else the one most like it."""
    kin = [other for other in known if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return kin[:4] or difflib.get_close_matches(name, known, n=1, cutoff=0.5)


_EXTRAS = {"peft": "peft", "bitsandbytes": "quant", "torchao": "quant"}


def require(package: str, what: str, *, extra: str | None = None) -> None:
    """Raise PlopError, naming the extra that brings it, where `what` needs a package that is not installed."""
    if find_spec(package) is None:
        extra = extra or _EXTRAS[package]
        raise PlopError(f"{what} needs {package}, which is not installed; pip install 'plop-cli[{extra}]'")
