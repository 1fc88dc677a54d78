"""Whole types or single modules? With one budget, three ways to choose by NFN (paper, Section 6, left open there).

python -m experiments.layers [--quick] [--seeds 0 1 2] [--data train.jsonl test.jsonl]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.common import Results, main
from experiments.sft import described, matched_rank, placements
from experiments.training import Bench
from plop_cli import Placement, recommend


def choices(bench: Bench) -> dict[str, Placement]:
    """As many modules each, and as many parameters."""
    rank = matched_rank(bench)
    types = placements(bench, match=f"mlp:{rank}")["PLoP"]
    single = recommend(bench.scores, by="module", model=bench.model, match=f"mlp:{rank}", rounding="nearest")
    return {
        "lowest types": types,
        "lowest modules": single,
        "lowest within their type": relative(bench, types),
    }


def relative(bench: Bench, like: Placement) -> Placement:
    """As many modules as `like` has, those with the lowest NFN as a share of their type's; about as many parameters."""
    mean = {kind.type: kind.nfn for kind in bench.scores.types}
    share = {module.name: module.nfn / mean[module.type] for module in bench.scores.modules}
    every = recommend(bench.scores, targets=list(mean), model=bench.model).modules
    chosen = tuple(sorted(every, key=lambda module: share[module.name])[: len(like.modules)])
    rank = round(like.trainable_parameters / sum(module.in_features + module.out_features for module in chosen))
    return replace(like, modules=chosen, rank=rank, alpha=2 * rank)


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path]) -> Results:
    """Each choice at its best learning rate."""
    bench = Bench(quick=quick, data=data)
    found = {}
    for name, placement in choices(bench).items():
        held = dict(Counter(module.type for module in placement.modules))
        found[name] = {**described(placement, bench.tuned(placement, seeds)), "held": held}
    return {"setting": bench.setting(), "untrained": bench.untrained, "choices": found}


def tell(results: Results) -> str:
    return ""


if __name__ == "__main__":
    main("layers", run, tell, seeds=range(3), data=True)
