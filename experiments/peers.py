"""Do the choices that are made without data train as well? The types that PLoP's peers would adapt, equally large.

python -m experiments.peers [--quick] [--seeds 0 1 2] [--data train.jsonl test.jsonl]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt

from experiments.baselines import CHOICES
from experiments.common import Results, command, figure, main, show, table
from experiments.outcomes import dots, less, losses, verdict
from experiments.placements import described, letters, matched_rank, placements
from experiments.training import Bench
from plop_cli import recommend

PLOP = "PLoP"


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path]) -> Results:
    """PLoP and its peers, as many types each, at the learning rate that is best for PLoP."""
    bench = Bench(quick=quick, data=data)
    match = f"mlp:{matched_rank(bench.scores, bench.model)}"
    plop = placements(bench.scores, bench.model, match=match)[PLOP]
    rate = bench.tuned(plop, seeds)[0].rate
    chosen = {PLOP: plop}
    for name, ranked in CHOICES.items():
        types = ranked(bench.model)[: len(bench.scores.recommended)]
        chosen[name] = recommend(bench.scores, targets=types, model=bench.model, match=match, rounding="nearest")
    found = {}
    for name, one in chosen.items():
        runs = [bench.run(one, rate=rate, seed=seed).summary() for seed in seeds]
        found[name] = {**described(one), "runs": runs}
    return {"setting": bench.setting(), "untrained": bench.untrained, "choices": found}


def tell(results: Results) -> str:
    setting, found = results["setting"], results["choices"]
    claims = {
        f"PLoP has a lower test loss than the {name}": less(found[PLOP], one)
        for name, one in found.items()
        if one["types"] != found[PLOP]["types"]
    }
    sizes = [one["parameters"] for one in found.values()]
    listed = [
        {
            "chosen by": name,
            "types": letters(one["types"]),
            "rank": one["rank"],
            "parameters": f"{one['parameters'] / 1e6:.2f} M",
            "test loss": show(losses(one)),
            "above PLoP": "" if name == PLOP else show(less(found[PLOP], one)),
        }
        for name, one in found.items()
    ]
    return f"""## Choices made without data

{verdict(claims)} In brackets: by how much, in nats per token, paired by seed.

**Asked:** peers choose by the weights alone. Does their choice train as well as PLoP's?

**Done:** the setting of supervised fine-tuning above ({setting["steps"]} steps of {setting["batch"]} pairs,
{len(results["seeds"])} seeds), all at PLoP's learning rate of {found[PLOP]["runs"][0]["rate"]:g}; as many types as PLoP
takes, parameters within {max(sizes) / min(sizes) - 1:.1%} of each other.

{figure("peers", "Test loss of each choice, every seed")}

{table(listed)}

{command(results)}
"""


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"peers": dots(results["choices"], "choice")}


if __name__ == "__main__":
    main("peers", run, tell, seeds=range(3), data=True)
