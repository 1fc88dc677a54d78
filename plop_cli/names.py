"""Paths of modules, as strings: the layer, the type and the place that a path tells. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count


def layer_of(name: str) -> int | None:
    """The index of the block: the first number in the path."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def place_of(name: str) -> str:
    """What PEFT can target: the module, or of an expert (`experts.down_proj[3]`) the parameter that it shares."""
    return name.partition("[")[0]


def module_types(names: Sequence[str]) -> dict[str, str]:
    """The type of each module name: the last part of its path, extended to the left while two places share it.

    Places are paths without their block numbers: every `layers.N.mlp.up_proj` is one place, and its type is `up_proj`.
    GPT-2's `attn.c_proj` and `mlp.c_proj` are two places with one last part, so both keep the part before it.
    """
    places = {name: tuple(part for part in name.split(".") if not part.isdigit()) for name in names}
    distinct = set(places.values())
    suffix = {place: next(_unique_suffixes(place, distinct)) for place in distinct}
    return {name: suffix[place] for name, place in places.items()}


def _unique_suffixes(place: tuple[str, ...], places: set[tuple[str, ...]]) -> Iterator[str]:
    for length in count(1):
        end = place[-length:]
        if length >= len(place) or not any(other[-length:] == end for other in places if other != place):
            yield ".".join(end)


def block_of(name: str) -> str:
    """The path of the block: up to the first number; "" for what is in none."""
    parts = name.split(".")
    return next((".".join(parts[: at + 1]) for at, part in enumerate(parts) if part.isdigit()), "")
