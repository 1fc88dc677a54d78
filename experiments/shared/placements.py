"""The placements that the paper compares, made equally large."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from plop_cli import NFNScores, Placement, PlopError, recommend
from plop_cli.placement.ranks import rank_for

WITHIN = 1.02
"""Matched placements have at most so many times each other's parameters."""


def matched_rank(scores: NFNScores, model: Any) -> int:
    """The least rank of MLP, from 8 on, at which all placements come to the same number of parameters."""
    costs = {strategy.key: strategy.cost for strategy in recommend(scores, model=model).strategies}
    if "mlp" not in costs:
        raise PlopError("nothing can be made as large as MLP: the model's feed-forward layers could not be traced")
    for rank in range(8, 129):
        sizes = [cost * rank_for(costs["mlp"] * rank, cost, "nearest") for cost in costs.values()]
        if max(sizes) <= WITHIN * min(sizes):
            return rank
    raise PlopError(f"at no rank up to 128 are all placements within {WITHIN - 1:.0%} of each other's parameters")


def matched(scores: NFNScores, model: Any) -> dict[str, Placement]:
    """PLoP, PLoP⁻¹, Attn, MLP and all-linear, equally large."""
    return placements(scores, model, match=f"mlp:{matched_rank(scores, model)}")


def placements(
    scores: NFNScores, model: Any, *, match: str | None = None, rank: int | None = None
) -> dict[str, Placement]:
    """PLoP, PLoP⁻¹, Attn, MLP and all-linear, at a rank or as large as STRATEGY:RANK."""
    return {
        strategy.name.split(" (")[0]: recommend(
            scores, targets=strategy.types, model=model, match=match, rank=rank, rounding="nearest"
        )
        for strategy in recommend(scores, model=model).strategies
    }


def of_modules(like: Placement, names: Collection[str], scores: NFNScores, model: Any) -> Placement:
    """A placement of these modules, about as large as `like`."""
    every = recommend(scores, targets=[kind.type for kind in scores.types], model=model).modules
    chosen = tuple(module for module in every if module.name in names)
    rank = round(like.trainable_parameters / sum(module.in_features + module.out_features for module in chosen))
    return replace(like, modules=chosen, rank=rank, alpha=2 * rank)


def described(placement: Placement) -> dict[str, Any]:
    """What the results say about a placement."""
    return {
        "types": sorted({module.type for module in placement.modules}),
        "modules": len(placement.modules),
        "rank": placement.rank,
        "parameters": placement.trainable_parameters,
    }


def labelled(name: str, types: list[str]) -> str:
    """A placement's name with its types as the paper writes them: "PLoP (D-U-V)"."""
    return f"{name} ({letters(types)})"


def letters(types: Iterable[str]) -> str:
    """["q_proj", "v_proj"] → "Q-V"."""
    return "-".join(kind[0].upper() for kind in types)


def apart(group: dict[str, dict[str, Any]]) -> str:
    """By how much the largest placement exceeds the smallest: "1.9%"."""
    sizes = [placement["parameters"] for placement in group.values()]
    return f"{max(sizes) / min(sizes) - 1:.1%}"
