"""What adapters cost, and the rank that a wish or a budget comes to.

A LoRA adapter of rank r on W (out × in) has r·(in + out) trainable parameters, so everything is a multiple of
`cost(modules)`, the parameters per rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from plop_cli.errors import PlopError, no_such
from plop_cli.names import place_of

Rounding = Literal["down", "up", "nearest"]

DEFAULT_RANK = 16

BYTES = 4
"""On disk PEFT keeps a parameter in float32 unless told otherwise."""

_NAMES = {"plop": "PLoP", "plop-1": "PLoP⁻¹", "attn": "Attn (Q-K-V)", "mlp": "MLP", "all": "all-linear"}
_ROUND = {"down": math.floor, "up": math.ceil, "nearest": lambda value: math.floor(value + 0.5)}


class Linear(NamedTuple):
    """A linear module: its full path, its type, and the shape of W."""

    name: str
    type: str
    in_features: int
    out_features: int

    @property
    def place(self) -> str:
        """What PEFT can target: the module, or of an expert the parameter that it shares with the others."""
        return place_of(self.name)


def cost(modules: Iterable[Linear]) -> int:
    """Trainable parameters per rank of adapters on all the modules."""
    return sum(module.in_features + module.out_features for module in modules)


@dataclass(frozen=True)
class Strategy:
    """A way to place adapters: the paper's, and what is usually done. `key` is how `--match` calls it."""

    key: str
    name: str
    types: tuple[str, ...]
    cost: int


def rank_for(parameters: float, cost: int, rounding: Rounding = "down") -> int:
    """The rank at which adapters of this cost have so many parameters; 0 where even rank 1 has more."""
    return int(_ROUND[rounding](parameters / cost))


def strategies(
    modules: Sequence[Linear],
    *,
    ranked: Sequence[str] = (),
    count: int = 0,
    attention: Sequence[str] = (),
    feed_forward: Sequence[str] = (),
) -> tuple[Strategy, ...]:
    """PLoP, PLoP⁻¹, Attn (Q-K-V), MLP and all-linear, as far as they are known here.

    Args:
        ranked: the types, lowest NFN first; `count` of them are PLoP's.
        attention, feed_forward: types, as `anatomy` finds them.
    """
    roles = (attention, feed_forward)
    every = sorted({module.type for module in modules})
    places = (ranked[:count], ranked[::-1][:count], *([t for t in own if t in every] for own in roles), every)
    return tuple(
        Strategy(key, name, tuple(types), cost(module for module in modules if module.type in types))
        for (key, name), types in zip(_NAMES.items(), places, strict=True)
        if types
    )


def rank_of(
    cost: int,
    others: Sequence[Strategy],
    *,
    rank: int | None,
    match: str | None,
    budget: int | None,
    rounding: Rounding = "down",
) -> int:
    """The rank that was asked for: as a number, to match a STRATEGY:RANK, or the largest within a budget.

    Raises PlopError where more than one is given, and where what is asked for comes to less than rank 1.
    """
    if sum(wish is not None for wish in (rank, match, budget)) > 1:
        raise PlopError("--rank, --match and --budget each set the rank; give one of them")
    chosen = DEFAULT_RANK if rank is None else rank
    wish = f"--rank is {rank}"
    if match is not None:
        parameters = _matched(match, others)
        chosen, wish = rank_for(parameters, cost, rounding), f"{match} has {parameters:,} parameters"
    if budget is not None:
        chosen, wish = rank_for(budget, cost), f"the budget is {budget:,} parameters"
    if chosen < 1:
        raise PlopError(f"{wish}, and rank 1 takes {cost:,} parameters here; give at least that, or fewer types")
    return chosen


def _matched(match: str, others: Sequence[Strategy]) -> int:
    """The parameters of STRATEGY:RANK."""
    key, rank = parse_match(match)
    known = {strategy.key: strategy for strategy in others}
    if key not in known:
        needs = "scores" if key.startswith("plop") else "a model whose attention can be traced"
        raise PlopError(f"--match {match} needs {needs}; here there is {', '.join(known)}")
    return known[key].cost * rank


def parse_match(text: str) -> tuple[str, int]:
    """mlp:8 → the strategy and its rank; PlopError for anything else."""
    key, _, digits = text.partition(":")
    if key not in _NAMES:
        raise no_such("strategy", key, _NAMES)
    if not digits.isdecimal() or int(digits) < 1:
        raise PlopError(f"--match {text} has no rank; write STRATEGY:RANK, such as {key}:8")
    return key, int(digits)


def parse_count(text: str) -> int:
    """20M, 500K, 1.5B or a plain number → a count; PlopError for anything else."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmb]?)", text.strip().lower())
    if not number:
        raise PlopError(f"{text!r} is no number of parameters; write such as 20M, 500K or 1250000")
    return int(float(number[1]) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[number[2]])
