"""What an opinion says of module types: their order, which would be adapted, and how far two opinions agree.

    plop = ordering(of_run(run)[0])
    kappa = ordering(registry.opinions.of_weights(revision, "float32")["kappa"])
    kappa.chosen                                # ["v_proj", "up_proj", "down_proj"], best first
    agreement(kappa, plop).tau                  # 0.81

Needs no torch: reports and tables are made of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from plop_cli.method.estimates import default_count
from plop_cli.opinions.methods import METHODS, Method
from plop_registry import ModuleValue, Opinion, Run, Skipped


@dataclass(frozen=True)
class TypeValue:
    """A module type: the mean over those of its modules that have a value; of several tasks, the fewest of them."""

    type: str
    modules: int
    value: float


@dataclass(frozen=True)
class Ordering:
    """`types` come in the order in which the method would adapt them, `chosen` are the first of them.

    `why_none` says why there are none, where so.
    """

    method: Method
    types: tuple[TypeValue, ...]
    chosen: tuple[str, ...]
    why_none: str = ""

    @property
    def values(self) -> dict[str, float]:
        """The value of each type, in this order."""
        return {each.type: each.value for each in self.types}


@dataclass(frozen=True)
class Agreement:
    """Between two orderings: the types that both choose, in the first one's order, and Kendall's τ-b of all types.

    τ is None where it is not defined: fewer than two types in common, or all of them alike to one of the two.
    """

    shared: tuple[str, ...]
    tau: float | None


def ordering(*opinions: Opinion, count: int | None = None, exclude: Collection[str] = ()) -> Ordering:
    """The order of module types that a method's opinion comes to; equals go by name.

    Args: `opinions`, the same method's of several tasks: a type's value is the mean over them, as PLoP takes it, of
    those types that have one on all. `count` types are chosen (default: as many as PLoP takes); those to `exclude` are
    out of the question.
    """
    method = METHODS[opinions[0].method]
    by_task = [_of_types(each, exclude) for each in opinions]
    mean = _geometric if method.geometric else fmean
    types = [
        TypeValue(name, min(len(each[name]) for each in by_task), fmean(mean(each[name]) for each in by_task))
        for name in by_task[0]
        if all(name in each for each in by_task)
    ]
    types.sort(key=lambda each: (each.value if method.lowest else -each.value, each.type))
    chosen = types[: default_count(len(types)) if count is None else count]
    why_none = "" if types else _why_none(opinions[0])
    return Ordering(method, tuple(types), tuple(each.type for each in chosen), why_none)


def _of_types(opinion: Opinion, exclude: Collection[str]) -> dict[str, list[float]]:
    of_types: dict[str, list[float]] = {}
    for module in opinion.values:
        if module.type and module.type not in exclude:
            of_types.setdefault(module.type, []).append(module.value)
    return of_types


def of_layers(opinion: Opinion) -> bool:
    """Whether it tells layers apart, and not types."""
    return any(not each.type for each in opinion.values)


def _why_none(opinion: Opinion) -> str:
    if of_layers(opinion):
        return "it tells layers apart, not types"
    if opinion.values:
        return "no type that may be adapted has a value"
    reasons = Counter(each.reason for each in opinion.left_out)
    why = f": {max(reasons, key=reasons.__getitem__)}" if reasons else ""
    return f"no module has a value{why}"


def agreement(one: Ordering, other: Ordering) -> Agreement:
    """How far two opinions of one model go together."""
    shared = tuple(name for name in one.chosen if name in other.chosen)
    ours, theirs = ({t.type: t.value if o.method.lowest else -t.value for t in o.types} for o in (one, other))
    both = [name for name in ours if name in theirs]
    return Agreement(shared, kendall([ours[name] for name in both], [theirs[name] for name in both]))


def kendall(one: list[float], other: list[float]) -> float | None:
    """Kendall's τ-b of paired values: (concordant − discordant) / √(pairs not tied in one · not tied in the other)."""
    signs = [(_sign(a - b), _sign(c - d)) for (a, c), (b, d) in combinations(zip(one, other, strict=True), 2)]
    untied = sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)
    return sum(x * y for x, y in signs) / math.sqrt(untied) if untied else None


def of_run(run: Run) -> list[Opinion]:
    """NFN and squared NFN of a run with its modules, as opinions."""
    opinions = []
    for key, field in (("nfn", "nfn"), ("nfn-squared", "nfn_squared")):
        values = [ModuleValue(module.name, module.type, getattr(module, field)) for module in run.modules]
        unknown = [Skipped(each.name, "no token reached it") for each in values if math.isnan(each.value)]
        known = [each for each in values if not math.isnan(each.value)]
        opinions.append(METHODS[key].opinion(known, unknown, seconds=run.duration))
    return opinions


def _geometric(values: list[float]) -> float:
    return math.exp(fmean(map(math.log, values)))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
