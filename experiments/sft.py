"""Where do adapters train best? PLoP, PLoP⁻¹, attention, MLP and all (paper, Tables 1 and 2), on GSM8K answers.

python -m experiments.sft [--quick] [--seeds 0 1 2] [--data train.jsonl test.jsonl]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.common import Results, main
from experiments.training import Bench, Run
from plop_cli import Placement, recommend

WITHIN = 1.02
"""Matched placements have at most so many times each other's parameters."""


def matched_rank(bench: Bench) -> int:
    """The least rank of MLP, from 8 on, at which all placements come to the same number of parameters."""
    for rank in range(8, 129):
        sizes = [placement.trainable_parameters for placement in placements(bench, match=f"mlp:{rank}").values()]
        if max(sizes) <= WITHIN * min(sizes):
            return rank
    raise AssertionError("ranks up to 128 are fine enough for any model")


def placements(bench: Bench, *, match: str | None = None, rank: int | None = None) -> dict[str, Placement]:
    """PLoP, PLoP⁻¹, Attn, MLP and all-linear."""
    return {
        strategy.name: recommend(
            bench.scores, targets=strategy.types, model=bench.model, match=match, rank=rank, rounding="nearest"
        )
        for strategy in recommend(bench.scores, model=bench.model).strategies
    }


def described(placement: Placement, runs: Sequence[Run]) -> Results:
    """A placement with its runs, for the results."""
    return {
        "types": sorted({module.type for module in placement.modules}),
        "modules": len(placement.modules),
        "rank": placement.rank,
        "parameters": placement.trainable_parameters,
        "runs": [run.summary() for run in runs],
    }


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path]) -> Results:
    """The placements at matched parameters, each at its best learning rate; then at MLP's rank, at the same rates."""
    bench = Bench(quick=quick, data=data)
    rank = matched_rank(bench)
    matched = {name: (one, bench.tuned(one, seeds)) for name, one in placements(bench, match=f"mlp:{rank}").items()}
    equal = {
        name: (one, [bench.run(one, rate=matched[name][1][0].rate, seed=seed) for seed in seeds])
        for name, one in placements(bench, rank=rank).items()
    }
    return {
        "setting": bench.setting(),
        "untrained": bench.untrained,
        "matched": {name: described(*found) for name, found in matched.items()},
        "equal_rank": {name: described(*found) for name, found in equal.items()},
    }


def tell(results: Results) -> str:
    return ""


if __name__ == "__main__":
    main("sft", run, tell, seeds=range(3), data=True)
