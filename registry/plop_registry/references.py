"""Which run is meant, and what is said where it is damaged, not there, or one of several."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError

if TYPE_CHECKING:
    from plop_registry.queries import Reader


def damaged(ids: Sequence[str]) -> str:
    """What is said of damaged runs, and what to do about them."""
    listed = ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if ids[5:] else "")
    runs, it = (f"run {listed} is", "it") if len(ids) == 1 else (f"runs {listed} are", "them")
    return (
        f"{runs} damaged and left out; import {it} again from an export, or remove {it} (plop rm); "
        "plop registry check says more"
    )


def meant(reader: Reader | None, reference: str) -> str:
    """The id of the one run that `reference` means; RegistryError saying why it is none, or several."""
    found = reader.meant_by(reference) if reader else []
    if len(found) == 1:
        return found[0]
    raise RegistryError(_not_one(reference, found, reader.names() if reader else {}))


def _not_one(reference: str, found: list[str], names: dict[str, str]) -> str:
    """Why `reference` means no run, or several, of those in `names`."""
    if found:
        listed = ", ".join(f"{run_id} ({names[run_id]})" for run_id in found[:5])
        return f"{reference!r} fits {len(found)} runs: {listed}{', …' if found[5:] else ''}; give more digits"
    if not names:
        return f"no run {reference!r}: the registry is empty (plop score adds runs)"
    heads = {run_id[: max(4, len(reference))]: f"{run_id} ({name})" for run_id, name in names.items()}
    known = {name: name for name in names.values()} if "/" in reference else heads
    near = difflib.get_close_matches(reference, known, n=3, cutoff=0.3)
    nearest = f"; nearest: {', '.join(known[name] for name in near)}" if near else ""
    return f"no run {reference!r}{nearest} (plop history lists all)"
