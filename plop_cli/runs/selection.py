"""Which runs a command is about: those that its filters leave, and of these the newest of each cell.

A filter that leaves nothing is named in the error, by the option it came from.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from plop_cli.errors import PlopError
from plop_cli.runs.axes import AXES, in_training_order
from plop_registry import Race, Registry, Run, SampleMatrix

_HELD = {"model": ["task"], "task": ["model"], "revision": ["model", "task"], "dtype": ["model", "task"]}
"""For each axis of a comparison, those on which all of its runs must be at one place."""


_NAMED: dict[str, Callable[[Run], str]] = {**AXES, "name": lambda run: run.name, "note": lambda run: run.note}
"""What a filter of this name looks at."""


def find_runs(registry: Registry, filters: Mapping[str, Any], *, limit: int | None = None) -> list[Run]:
    """The runs that fit all filters (named as in `Registry.runs`; None does not count), newest first.

    Raises PlopError naming the filter that leaves none.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    return registry.runs(limit=limit, **given) or _fail(registry, given)


def _fail(registry: Registry, given: Mapping[str, Any]) -> NoReturn:
    every, kept = registry.runs(), dict[str, Any]()
    if not every and registry.races.all(limit=1):
        raise PlopError(f"the registry {registry.url} holds races, and no runs; plop history --kind race lists them")
    if not every:
        raise PlopError(f"the registry {registry.url} is empty; plop score adds runs")
    for name, value in given.items():
        if not registry.runs(limit=1, **kept, **{name: value}):
            break
        kept[name] = value
    if not kept or not registry.runs(limit=1, **{name: value}):
        raise PlopError(f"no run fits {_option(name, value)}; {_known(every, name, value)}")
    others = " ".join(_option(*each) for each in kept.items())
    raise PlopError(f"{_option(name, value)} leaves none of the runs that fit {others}; drop one of them")


def _option(name: str, value: object) -> str:
    return f"--{name} {_seconds(value) if isinstance(value, datetime) else value}"


def _known(runs: Sequence[Run], name: str, value: object) -> str:
    """What there is instead: the nearest name, or some; the time that the runs, newest first, are of."""
    if isinstance(value, datetime):
        return f"the runs are of {_seconds(runs[-1].created_at)} to {_seconds(runs[0].created_at)}"
    names = set(types_of(runs, "*") if name == "type" else map(_NAMED[name], runs)) - {""}
    if not names:
        return f"no run has a {name}; plop score --{name} gives it one"
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(sorted(names)[:5])}"


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def run_or_race(registry: Registry, reference: str) -> Run | Race:
    """What `reference` means: a race by its id or the first digits of it, or a run, as `Registry.get` reads it.

    Raises RegistryError where it means neither, PlopError where it means both.
    """
    race = race_meant(registry, reference)
    return registry.races.get(race) if race else registry.get(reference)


def race_meant(registry: Registry, reference: str) -> str | None:
    """The id of the race that `reference` means; None where it means none. PlopError where it means a run too."""
    if not registry.races.meant_by(reference):
        return None
    race = registry.races.resolve(reference)
    if runs := registry.meant_by(reference):
        also = f"the run {runs[0]}" if len(runs) == 1 else f"{len(runs)} runs"
        raise PlopError(f"{reference!r} fits the race {race} and {also}; give more digits")
    return race


def newest_first(runs: Sequence[Run]) -> list[Run]:
    """Runs in the order of the history: those of one model on one task by checkpoint, others by time as they come."""
    places = {(run.model_name, run.task_name) for run in runs}
    return in_training_order(runs)[::-1] if len(places) == 1 else list(runs)


def types_of(runs: Sequence[Run], pattern: str) -> list[str]:
    """The module types of these runs that fit a glob, in the order of the first run that has them."""
    types = dict.fromkeys(score.type for run in runs for score in run.types)
    return [name for name in types if fnmatchcase(name, pattern)]


def to_compare(
    registry: Registry, references: Sequence[str], by: str | None, filters: Mapping[str, Any]
) -> tuple[list[tuple[Run, SampleMatrix]], int]:
    """The runs to compare, with their modules and matrices, and how many older ones were passed over.

    Either `references` name them, or they are the newest run at each value of the axis `by`, of those that fit; of the
    latter, a damaged one is left out.
    """
    filtered = any(value is not None for name, value in filters.items() if name != "type")
    if bool(references) == bool(by) or (references and filtered):
        raise PlopError("what is to be compared? give two runs or more, or --by and filters (plop history lists runs)")
    if by:
        chosen, older = cells(find_runs(registry, filters), by)
        whole = registry.whole(chosen)
        if len(whole) < 2:
            raise PlopError("fewer than two of the runs to compare are sound; plop registry check says what is wrong")
        return whole, older
    runs = list({run.id: run for run in map(registry.get, references)}.values())
    if len(runs) < 2:
        raise PlopError(f"there is only one run to compare, {runs[0].id}; give another (plop history lists runs)")
    pattern = filters.get("type")
    if pattern is not None and not types_of(runs, pattern):
        raise PlopError(f"neither run has a type that fits --type {pattern}; {_known(runs, 'type', pattern)}")
    return [(run, registry.matrix(run.id)) for run in runs], 0


def cells(runs: Sequence[Run], by: str) -> tuple[list[Run], int]:
    """The newest run at each value of the axis `by`, in order, and how many older ones are passed over.

    Args: `runs`, newest first. Checkpoints go by step, other values by name.

    Raises PlopError where runs of several models or tasks would be mixed, or all have one value.
    """
    for axis in _HELD[by]:
        values = sorted(set(map(AXES[axis], runs)))
        if len(values) > 1:
            shown = ", ".join(values[:5]) + (", …" if values[5:] else "")
            raise PlopError(f"--by {by} compares runs of one {axis}, and these are of {shown}; add --{axis}")
    newest: dict[tuple[str, str], Run] = {}
    for run in runs:
        value = AXES[by](run)
        # A label without a number, such as a branch, moves on to other weights.
        moving = by == "revision" and not re.search(r"\d", value)
        newest.setdefault((value, run.model_revision if moving else ""), run)
    if len(newest) < 2:
        raise PlopError(f"all runs that fit have the same {by}, {AXES[by](runs[0])}; plop score adds another")
    chosen = [run for _, run in sorted(newest.items())]
    return in_training_order(chosen) if by == "revision" else chosen, len(runs) - len(chosen)


def index_of(runs: Sequence[Run], called: Sequence[str], reference: str) -> int:
    """Which of the runs `reference` means: the name of its column, or the start of its id."""
    fits = [index for index, run in enumerate(runs) if called[index] == reference or run.id.startswith(reference)]
    if len(fits) != 1:
        there = ", ".join(f"{name} ({run.id[:8]})" for name, run in zip(called, runs, strict=True))
        raise PlopError(f"--baseline {reference} is {'several' if fits else 'none'} of the compared runs: {there}")
    return fits[0]
