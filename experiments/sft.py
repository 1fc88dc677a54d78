"""Where do adapters train best? PLoP, PLoP⁻¹, attention, MLP and all (paper, Tables 1 and 2), on GSM8K answers.

python -m experiments.sft [--quick] [--seeds 0 1 2] [--data train.jsonl test.jsonl]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from experiments.common import Results, command, figure, main, show, table
from experiments.outcomes import dots, less, losses, rates, section, verdict
from experiments.placements import described, letters, matched_rank, placements
from experiments.training import Bench


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path]) -> Results:
    """The placements at matched parameters, each at its best learning rate; then at MLP's rank, one seed."""
    bench = Bench(quick=quick, data=data)
    rank = matched_rank(bench.scores, bench.model)
    matched, equal = {}, {}
    large = placements(bench.scores, bench.model, match=f"mlp:{rank}")
    for name, one in large.items():
        runs = bench.tuned(one, seeds)
        matched[name] = {**described(one), "runs": [run.summary() for run in runs]}
    for name, one in placements(bench.scores, bench.model, rank=rank).items():
        rate = matched[name]["runs"][0]["rate"]
        runs = [bench.run(one, rate=rate, seed=seeds[0])]
        equal[name] = {**described(one), "runs": [run.summary() for run in runs]}
    solved = {"untrained": bench.solved()}
    with bench.trained(large["PLoP"], rate=matched["PLoP"]["runs"][0]["rate"], seed=seeds[0]):
        solved["PLoP"] = bench.solved()
    return {
        "setting": bench.setting(),
        "untrained": bench.untrained,
        "matched": matched,
        "equal_rank": equal,
        "solved": solved,
    }


def rows(group: dict[str, Any]) -> list[dict[str, object]]:
    """The placements of a group, lowest loss first."""
    return [
        {
            "placement": f"{name.split(' (')[0]} ({letters(found['types'])})",
            "rank": found["rank"],
            "parameters": f"{found['parameters'] / 1e6:.2f} M",
            "learning rate": f"{found['runs'][0]['rate']:g}",
            "train loss": show([run["train"] for run in found["runs"]]),
            "test loss": show(losses(found)),
            "against PLoP": "" if name == "PLoP" else show(less(group["PLoP"], found)),
        }
        for name, found in sorted(group.items(), key=lambda item: sum(losses(item[1])))
    ]


def tell(results: Results) -> str:
    setting, group, equal = results["setting"], results["matched"], results["equal_rank"]
    short = {name.split(" (")[0]: found for name, found in group.items()}
    sizes, solved = [found["parameters"] for found in group.values()], results["solved"]
    lowest = min(short, key=lambda name: sum(losses(short[name])))
    claims = {
        f"at equal parameters PLoP has a lower test loss than {other}": less(group["PLoP"], short[other])
        for other in ("Attn", "PLoP⁻¹", "MLP", "all-linear")
    }
    return section(f"""## Placement in supervised fine-tuning

{verdict(claims)} In brackets: by how much, in nats per token, paired by seed. The lowest mean loss is that of {lowest}.

**Claimed** (Tables 1 and 2): at equal parameters PLoP is best, MLP close behind, attention alone clearly worst, and
PLoP beats adapters everywhere.

**Done:** SmolLM2-135M-Instruct in bfloat16, LoRA (α = 2r, float32) on GSM8K question → answer pairs without calculator
notes, of at most {setting["longest"]} tokens ({setting["pairs"]} to draw from); {setting["steps"]} steps of AdamW with
{setting["batch"]} pairs, 10 % warmup and a cosine; loss on the answer's tokens. Learning rates {rates(setting)} for
each placement, chosen on the first seed by {setting["validation"]} validation pairs; {len(results["seeds"])} seeds (the
start, the pairs, their order); test loss on {setting["test"]} of GSM8K's test pairs. Before training it is
{results["untrained"]:.3f}. Parameters are within {max(sizes) / min(sizes) - 1:.1%} of each other. The paper trains on
MetaMathQA for two epochs and compares accuracy. At this size accuracy is coarse, so the loss is compared: of the
{setting["test"]} test questions the model solves {solved["untrained"]} untrained and {solved["PLoP"]} trained with PLoP
(first seed, greedy). Finished runs are kept in `experiments/results/runs.jsonl`, so the time below is that of the rest.

{figure("sft", "Test loss of each placement, every seed")}

{table(rows(group))}

At equal rank, with the same learning rates, the first seed alone:

{table(rows(equal))}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    charts = [
        dots(results[group], "placement").properties(title=title)
        for group, title in (("matched", "equal parameters"), ("equal_rank", "equal rank"))
    ]
    return {"sft": alt.vconcat(*charts).resolve_scale(x="shared")}


if __name__ == "__main__":
    main("sft", run, tell, seeds=range(3), data=True)
