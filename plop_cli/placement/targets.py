"""How PEFT reads `target_modules`, and the shortest `target_modules` that mean exactly the wanted modules.

    hits(["v_proj"], names)              # every module whose path ends in .v_proj
    shortest(wanted, names)              # ("v_proj",), or ("attn.c_proj",), or a regex where no list can say it

PEFT's rule (peft.tuners.tuners_utils.check_target_module_exists): an entry of a list matches a module of that very path
or one whose path ends in a dot and the entry; a string is a regular expression that must match the whole path.

Experts that share one parameter are no modules: that parameter goes into `target_parameters`, which are matched like a
list. In models that have such experts, PEFT takes some names of `target_modules` for theirs
(peft/utils/transformers_weight_conversion.py), so modules of these names are given by their weights too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

Targets = tuple[str, ...] | str
"""A list of names, or one regular expression."""

NOTHING = "(?!)"
"""The regular expression that matches no module."""

_TAKEN_FOR_EXPERTS = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}


class Targeting(NamedTuple):
    """PEFT's `target_modules` and `target_parameters`."""

    modules: Targets
    parameters: tuple[str, ...] = ()


def target(wanted: Collection[str], names: Collection[str], stacks: Collection[str] = ()) -> Targeting:
    """The shortest that adapt exactly `wanted`, out of the modules `names` and the experts' parameters, `stacks`."""
    fused = bool(stacks) or _fused(names)
    redirected = {name for name in wanted if fused and name.rpartition(".")[2] in _TAKEN_FOR_EXPERTS}
    parameters = [_parameter(name, stacks) for name in wanted if name in redirected or name in stacks]
    keys = [*(_parameter(name, stacks) for name in (*names, *stacks)), *_beside(names, stacks)]
    endings = shortest(parameters, keys)
    return Targeting(
        shortest([name for name in wanted if name not in redirected and name not in stacks], names),
        tuple(sorted(parameters)) if isinstance(endings, str) else endings,
    )


def adapted(targets: Targeting, names: Sequence[str], stacks: Collection[str] = ()) -> list[str]:
    """What PEFT would adapt: modules among `names`, and `stacks`."""
    parameters = {_parameter(name, stacks): name for name in (*names, *stacks)}
    return [*hits(targets.modules, names), *(parameters[hit] for hit in hits(targets.parameters, parameters))]


def _beside(names: Collection[str], stacks: Collection[str]) -> Iterator[str]:
    """What parameters of other experts may be called that have no modules either, such as shared ones (Inkling)."""
    known, parents = set(names), {stack.rpartition(".")[0] for stack in stacks}
    leaves = sorted({stack.rpartition(".")[2] for stack in stacks})
    for name in names:
        held = [f"{name}.{leaf}" for leaf in leaves]
        if name.endswith("experts") and name not in parents and known.isdisjoint(held):
            yield from held


def _fused(names: Collection[str]) -> bool:
    """Whether there are experts without modules of their own, though none of them is scored."""
    known = set(names)
    return any(name.rpartition(".")[2] == "experts" and f"{name}.0" not in known for name in known)


def _parameter(name: str, stacks: Collection[str]) -> str:
    return name if name in stacks else f"{name}.weight"


def hits(targets: Iterable[str] | str, names: Iterable[str]) -> list[str]:
    """The modules among `names` that PEFT would adapt."""
    if isinstance(targets, str):
        return [name for name in names if re.fullmatch(targets, name)]
    wanted = tuple(targets)
    return [name for name in names if any(name == target or name.endswith(f".{target}") for target in wanted)]


def shortest(wanted: Collection[str], names: Collection[str]) -> Targets:
    """A sorted list of the shortest endings that hit `wanted` and nothing else among `names`; else a regex."""
    endings: set[str] = set()
    for place in _places(wanted).values():
        ending = next((ending for ending in _endings(place) if set(hits([ending], names)) <= set(wanted)), None)
        if ending is None:
            return regex(wanted, names)
        endings.add(ending)
    return tuple(sorted(endings))


def regex(wanted: Collection[str], names: Collection[str]) -> str:
    """A regular expression that matches `wanted` and nothing else among `names`."""
    everywhere = _places(names)
    return "|".join(_alternative(place, members, everywhere[place]) for place, members in _places(wanted).items())


def _places(names: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    """Modules by their paths with every number left open."""
    places: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        places.setdefault(tuple(r"\d+" if part.isdigit() else re.escape(part) for part in name.split(".")), []).append(
            name
        )
    return places


def _endings(members: list[str]) -> Iterator[str]:
    """Endings that all members share, shortest first."""
    parts = [name.split(".") for name in members]
    for length in range(1, len(parts[0]) + 1):
        endings = {".".join(path[-length:]) for path in parts}
        if len(endings) > 1:
            return
        yield endings.pop()


def _alternative(place: tuple[str, ...], wanted: list[str], everywhere: list[str]) -> str:
    """What matches `wanted`, which are of one place: all numbers, or those of one open position, or each by name."""
    if len(wanted) < len(everywhere):
        if place.count(r"\d+") != 1:
            return "|".join(map(re.escape, wanted))
        open_at = place.index(r"\d+")
        numbers = [name.split(".")[open_at] for name in wanted]
        choice = numbers[0] if len(numbers) == 1 else f"(?:{'|'.join(numbers)})"
        place = (*place[:open_at], choice, *place[open_at + 1 :])
    return r"\.".join(place)
