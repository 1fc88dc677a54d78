"""Does a low NFN before training tell where training helps? Adapters on one module type at a time, equally large.

python -m experiments.singles [--quick] [--seeds 0 1] [--data train.jsonl test.jsonl]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.common import Results, main
from experiments.sft import described
from experiments.training import Bench
from plop_cli import recommend

AS_LARGE_AS = "mlp:4"


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path]) -> Results:
    """Each type alone, at its best learning rate."""
    bench = Bench(quick=quick, data=data)
    found = {}
    for kind in bench.scores.types:
        one = recommend(bench.scores, targets=[kind.type], model=bench.model, match=AS_LARGE_AS, rounding="nearest")
        found[kind.type] = {"nfn": kind.nfn, **described(one, bench.tuned(one, seeds))}
    return {"setting": bench.setting(), "untrained": bench.untrained, "types": found}


def tell(results: Results) -> str:
    return ""


if __name__ == "__main__":
    main("singles", run, tell, seeds=range(2), data=True)
