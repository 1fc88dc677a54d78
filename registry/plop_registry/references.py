"""Which run is meant, and what is said where it is damaged, not there, or one of several."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from plop_registry.errors import RegistryError

if TYPE_CHECKING:
    from plop_registry.queries import Reader


def damaged(ids: Sequence[str], kind: str = "run") -> str:
    """What is said of damaged runs or races, and what to do about them."""
    listed = ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if ids[5:] else "")
    runs, it = (f"{kind} {listed} is", "it") if len(ids) == 1 else (f"{kind}s {listed} are", "them")
    return (
        f"{runs} damaged and left out; import {it} again from an export, or remove {it} (plop rm); "
        "plop registry check says more"
    )


def meant(reader: Reader | None, reference: str, races: Callable[[str], Sequence[str]]) -> str:
    """The id of the one run that `reference` means; RegistryError saying why it is none, or several.

    Args: `races`, gives the ids of the races that it may mean instead.
    """
    found = candidates(reader, reference) if reader else []
    if len(found) == 1 and len(reference) > 1:
        return found[0]
    if not found and races(reference):
        raise RegistryError(f"{reference!r} is a race, and here a run is wanted; plop show {reference} shows the race")
    raise RegistryError(_not_one(reference, found, {each.id: str(each) for each in reader.called()} if reader else {}))


def candidates(reader: Reader, reference: str) -> list[str]:
    """Ids of the runs that "latest", (the start of) an id, a name or MODEL/TASK may mean, newest first.

    MODEL/TASK means the newest run of both; several ids are of models or tasks that are not the same.
    """
    if reference == "latest":
        return reader.ids(limit=1)
    if re.fullmatch(r"[0-9a-f]{1,16}", reference.lower()) and (found := reader.ids(*reader.where(start=reference))):
        return found
    if found := reader.ids(*reader.where(name=reference)):
        return found
    newest: dict[tuple[str, ...], str] = {}
    for slash in re.finditer("/", reference):
        model, task = reference[: slash.start()], reference[slash.end() :]
        for run in reader.called(*reader.where(model=model, task=task)):
            if run.model_known and str(run) == reference:
                return [run.id]
            newest.setdefault((run.model_name, run.task_name, run.label_name if "@" in model else ""), run.id)
    return [*newest.values()]


def _not_one(reference: str, found: list[str], names: dict[str, str]) -> str:
    """Why `reference` means no run, or several, of those in `names`."""
    if found:
        listed = ", ".join(f"{run_id} ({names[run_id]})" for run_id in found[:5]) + (", …" if found[5:] else "")
        if len(reference) < 2:
            return f"{reference!r} is too short for an id; it could be {listed}; give two digits or more"
        digits = all(run_id.startswith(reference.lower()) for run_id in found)
        remedy = "give more digits" if digits else "give one of these, or its id"
        return f"{reference!r} fits {len(found)} runs: {listed}; {remedy}"
    if not names:
        return f"no run {reference!r}: the registry is empty (plop score adds runs)"
    heads = {run_id[: max(4, len(reference))]: f"{run_id} ({name})" for run_id, name in names.items()}
    known = {name: name for name in names.values()} if "/" in reference else heads
    near = difflib.get_close_matches(reference, known, n=3, cutoff=0.3)
    nearest = f"; nearest: {', '.join(known[name] for name in near)}" if near else ""
    return f"no run {reference!r}{nearest} (plop history lists all)"
