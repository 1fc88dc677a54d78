"""Where do adapters train best? PLoP, PLoP⁻¹, attention, MLP and all (paper, Tables 1 and 2), on GSM8K answers.

python -m experiments.sft [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from experiments.common import Results, called, command, figure, main, show, table
from experiments.outcomes import dots, less, losses, rates, section, verdict
from experiments.placements import described, letters, matched_rank, placements
from experiments.training import QUICK, Bench, Size


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """The placements at matched parameters, each at its best learning rate; then at MLP's rank."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    rank = matched_rank(bench.scores, bench.model)
    matched, equal = {}, {}
    for name, one in placements(bench.scores, bench.model, match=f"mlp:{rank}").items():
        rate = bench.tuned(one, seeds[:1])[0].rate
        runs = [bench.run(one, rate=rate, seed=seed, solve=True) for seed in seeds]
        matched[name] = {**described(one), "runs": [run.summary() for run in runs]}
    for name, one in placements(bench.scores, bench.model, rank=rank).items():
        rate = matched[name]["runs"][0]["rate"]
        runs = [bench.run(one, rate=rate, seed=seed) for seed in seeds]
        equal[name] = {**described(one), "runs": [run.summary() for run in runs]}
    return {
        "setting": bench.setting(),
        "untrained": bench.untrained,
        "matched": matched,
        "equal_rank": equal,
        "solved": bench.solved(),
    }


def right(found: dict[str, Any], tested: int) -> list[float]:
    """Of each seed, the share of the test questions that were answered right."""
    return [run["solved"] / tested for run in found["runs"]]


def rows(group: dict[str, Any], tested: int) -> list[dict[str, object]]:
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
            **({"answers right": show(right(found, tested))} if "solved" in found["runs"][0] else {}),
        }
        for name, found in sorted(group.items(), key=lambda item: sum(losses(item[1])))
    ]


def tell(results: Results) -> str:
    setting, group, equal = results["setting"], results["matched"], results["equal_rank"]
    short = {name.split(" (")[0]: found for name, found in group.items()}
    sizes = [found["parameters"] for found in group.values()]
    lowest = min(short, key=lambda name: sum(losses(short[name])))
    accuracy = {name: right(found, setting["test"]) for name, found in short.items()}
    answers = ", ".join(
        f"{other} {show([own - its for own, its in zip(accuracy['PLoP'], accuracy[other], strict=True)])}"
        for other in ("Attn", "PLoP⁻¹", "MLP", "all-linear")
    )
    claims = {
        f"at equal parameters PLoP has a lower test loss than {other}": less(group["PLoP"], short[other])
        for other in ("Attn", "PLoP⁻¹", "MLP", "all-linear")
    }
    return section(f"""## Placement in supervised fine-tuning

{verdict(claims)} In brackets: by how much, in nats per token, paired by seed. The lowest mean loss is that of {lowest}.

**Claimed** (Tables 1 and 2): at equal parameters PLoP is best, MLP close behind, attention alone clearly worst, and
PLoP beats adapters everywhere.

**Done:** {called(results)} in bfloat16, LoRA (α = 2r, float32) on GSM8K question → answer pairs without calculator
notes, of at most {setting["longest"]} tokens ({setting["pairs"]} to draw from); {setting["steps"]} steps of AdamW with
{setting["batch"]} pairs, 10 % warmup and a cosine; loss on the answer's tokens. Learning rates {rates(setting)} for
each placement, chosen on the first seed by {setting["validation"]} validation pairs; {len(results["seeds"])} seeds (the
start, the pairs, their order); test loss on {setting["test"]} of GSM8K's test pairs. Before training it is
{results["untrained"]:.3f}. Parameters are within {max(sizes) / min(sizes) - 1:.1%} of each other. The paper trains on
MetaMathQA for two epochs and compares accuracy. Here accuracy (greedy, at most 96 tokens, the last number counts) is
coarse, so the loss is compared: untrained, the model answers {results["solved"]} of the {setting["test"]} test
questions. PLoP's accuracy minus that of others, paired by seed, is: {answers}. Finished runs are
kept in `experiments/results/runs.jsonl`, so the time below is that of the rest.

{figure("sft", "Test loss of each placement, every seed")}

{table(rows(group, setting["test"]))}

At equal rank, with the same learning rates:

{table(rows(equal, setting["test"]))}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    charts = [
        dots(results[group], "placement").properties(title=title)
        for group, title in (("matched", "equal parameters"), ("equal_rank", "equal rank"))
    ]
    return {"sft": alt.vconcat(*charts).resolve_scale(x="shared")}


if __name__ == "__main__":
    main("sft", run, tell, seeds=range(6), data="GSM8K", sizes=(Size(), QUICK))
