"""Who races: names → placements, made equally large.

    placements = contestants(["plop", "mlp", "q_proj+v_proj"], body, scores, registry, match="mlp:8")

Equally large means within 2 % of each other's trainable parameters, unless all are to have one rank.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError, no_such
from plop_cli.opinions.methods import METHODS
from plop_cli.placement.placement import Placement
from plop_cli.placement.ranks import cost, parse_match, rank_for
from plop_cli.placement.recommend import Scores, recommend
from plop_cli.placement.targets import hits
from plop_cli.runs.kept import ordering_among
from plop_registry import Anatomy, Opinion, RegistryError

WITHIN = 1.02
"""Matched placements have at most so many times each other's parameters."""

DEFAULT = "plop,mlp,attn,all"
STRATEGIES = ("plop", "plop-1", "attn", "mlp", "all")

_FROM = 8
_UP_TO = 128
"""Ranks of MLP that are tried where nobody says how large the placements should be."""

_UNTOLD = (
    *("rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "layer_replication", "exclude_modules"),
    *("modules_to_save", "trainable_token_indices", "target_parameters", "use_dora", "use_qalora", "lora_bias"),
)
"""What an adapter_config.json may ask for beyond types and rank, and a race does not do."""


def listed(text: str) -> list[str]:
    """plop,mlp,"q_proj,v_proj" → the three; types may be joined by + instead."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


def needs_scores(names: Sequence[str], match: str | None) -> bool:
    """Whether PLoP has to have chosen before these can race, or what texts run through has to be known."""
    return any(name.startswith("plop") or name in METHODS for name in (*names, match or ""))


def contestants(
    names: Sequence[str],
    body: Anatomy,
    scores: Scores | None,
    stored: Callable[[str], Scores],
    opinion: Callable[[str], Opinion],
    *,
    rank: int | None = None,
    match: str | None = None,
    budget: int | None = None,
) -> dict[str, Placement]:
    """The placements by what people call them, in this order.

    Args:
        names: strategies (STRATEGIES), methods (`opinions.methods.METHODS`), types joined by comma or +, an
            adapter_config.json or its folder, stored runs.
        stored: gives the scores of a stored run; raises where there is none.
        opinion: gives what a method says of this model.
        rank, match, budget: the rank of all; or STRATEGY:RANK, whose size all are to have; or parameters at most.

    Raises PlopError for what does not exist, does not fit the model, or cannot be made equally large.
    """
    wanted = parse_match(match) if match else None
    found: dict[str, Placement] = {}
    for name in names:
        called, placement = _placement(name, body, scores, stored, opinion)
        found[called if called not in found else f"{called} ({sum(map(called.__eq__, found)) + 1})"] = placement
    if len(found) < 2:
        raise PlopError("a race needs two contestants; give more (--contestants plop,mlp)")
    costs = {name: cost(placement.modules) for name, placement in found.items()}
    if sum(wish is not None for wish in (rank, match, budget)) > 1:
        raise PlopError("--rank, --match and --budget each set the rank; give one of them")
    if rank is not None:
        ranks = dict.fromkeys(costs, rank)
    elif budget is not None:
        ranks = within(costs, budget)
    else:
        own = _strategies(body, scores).get(wanted[0] if wanted else "mlp")
        if wanted and own is None:
            raise PlopError(f"--match {match} needs a model whose attention can be traced; give --rank or --budget")
        unit = own.cost if own else next(iter(costs.values()))
        ranks = matched(costs, unit, wanted[1] if wanted else None)
    if low := [name for name in ranks if ranks[name] < 1]:
        raise PlopError(f"rank 1 of {low[0]} takes {costs[low[0]]:,} parameters; give room for that, or leave it out")
    return {name: replace(found[name], rank=ranks[name], alpha=2 * ranks[name]) for name in found}


def matched(costs: Mapping[str, int], unit: int, rank: int | None) -> dict[str, int]:
    """Ranks at which all have about as many parameters as `unit` at `rank`; by default at the least that will do.

    Args: `costs` and `unit`, parameters per rank.

    Raises PlopError where they cannot be within 2 % of each other; a contestant that is too large has rank 0.
    """

    def at(rank: int) -> dict[str, int]:
        return {name: rank_for(unit * rank, own, "nearest") for name, own in costs.items()}

    fitting = (each for each in range(rank or _FROM, _UP_TO + 1) if even(costs, at(each)))
    found = next(fitting, None)
    if rank is not None and (found == rank or min(at(rank).values()) < 1):
        return at(rank)
    remedy = f"give --match with rank {found}, or --rank for equal ranks" if found else "give --rank for equal ranks"
    if rank is not None or found is None:
        at_ranks = f"rank {rank}" if rank is not None else f"no rank up to {_UP_TO}"
        raise PlopError(f"at {at_ranks} the contestants are not within {WITHIN - 1:.0%} of each other's size; {remedy}")
    return at(found)


def within(costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """The largest ranks with at most so many parameters at which all are within 2 % of each other.

    Raises PlopError where there are none.
    """
    dearest = max(costs, key=costs.__getitem__)
    if budget < costs[dearest]:
        return {name: rank_for(budget, own) for name, own in costs.items()}
    for rank in range(budget // costs[dearest], 0, -1):
        parameters = rank * costs[dearest]
        ranks = {name: min(rank_for(parameters, own, "nearest"), budget // own) for name, own in costs.items()}
        if even(costs, ranks):
            return ranks
    raise PlopError(
        f"within {budget:,} parameters the contestants cannot be within {WITHIN - 1:.0%} of each other's size; "
        "give a larger --budget, or --rank for equal ranks"
    )


def even(costs: Mapping[str, int], ranks: Mapping[str, int]) -> bool:
    """Whether the sizes are within 2 % of each other, and none is zero."""
    sizes = [costs[name] * ranks[name] for name in costs]
    return 0 < max(sizes) <= WITHIN * min(sizes)


def _strategies(body: Anatomy, scores: Scores | None) -> dict[str, Any]:
    every = sorted({module.type for module in body.modules})
    known = recommend(scores, model=body) if scores is not None else recommend(targets=every, model=body)
    return {strategy.key: strategy for strategy in known.strategies}


def _placement(
    name: str,
    body: Anatomy,
    scores: Scores | None,
    stored: Callable[[str], Scores],
    opinion: Callable[[str], Opinion],
) -> tuple[str, Placement]:
    given = () if scores is None else scores
    types = {module.type for module in body.modules}
    if name in STRATEGIES:
        strategy = _strategies(body, scores).get(name)
        if strategy is None:
            raise PlopError(f"{name} cannot race: this model's attention cannot be traced; give types (q_proj+v_proj)")
        return strategy.name.split(" (")[0], recommend(given, targets=strategy.types, model=body)
    if name in METHODS:
        return METHODS[name].name, recommend(given, targets=_choice_of(opinion(name), scores, body), model=body)
    parts = [part.strip() for part in name.replace("+", ",").split(",")]
    if len(parts) > 1 or name in types:
        return "+".join(parts), recommend(given, targets=parts, model=body)
    path = Path(name).expanduser()
    if path.exists():
        return _configured(path, body)
    try:
        return f"run {name}", recommend(stored(name), model=body)
    except RegistryError as error:
        raise no_such("contestant", name, [*STRATEGIES, *METHODS, *types]) from error


def _choice_of(opinion: Opinion, scores: Scores | None, body: Anatomy) -> tuple[str, ...]:
    """The types that a method would adapt, as many as PLoP; of those that texts run through, where that is known."""
    modules = scores.modules if scores else body.modules
    order = ordering_among({module.type for module in modules}, opinion, body.architecture)
    if order.chosen:
        return order.chosen
    raise PlopError(f"{order.method.name} chooses no types here ({order.why_none}), so it cannot race; leave it out")


def _configured(path: Path, body: Anatomy) -> tuple[str, Placement]:
    """What an adapter_config.json would adapt in this model."""
    file = path / "adapter_config.json" if path.is_dir() else path
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        wanted = config["target_modules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlopError(f"{file} is no adapter_config.json with target_modules ({error})") from error
    kind, bias = config.get("peft_type", "LORA"), config.get("bias", "none")
    if (kind, bias) != ("LORA", "none"):
        raise PlopError(f"{file} is of {kind} with bias {bias}, and a race is of LoRA without biases; give such a one")
    if not wanted or not isinstance(wanted, str | list) or not all(isinstance(each, str) for each in wanted):
        raise PlopError(f"{file} has no target_modules that are names; give names or a regular expression")
    if other := [name for name in _UNTOLD if config.get(name)]:
        raise PlopError(f"{file} has {other[0]}, and a race is of types at one rank; take it out")
    every = recommend(targets=sorted({module.type for module in body.modules}), model=body)
    names = [module.place for module in every.modules]
    try:
        hit = set(names if wanted == "all-linear" else hits(wanted, names))
    except re.error as error:
        raise PlopError(f"target_modules of {file} are no regular expression ({error}); mend them") from error
    chosen = tuple(module for module in every.modules if module.place in hit)
    if not chosen:
        raise PlopError(f"{file} adapts nothing in this {body.architecture}; give a config for this model")
    return file.parent.name or file.stem, replace(every, modules=chosen, rslora=bool(config.get("use_rslora")))
