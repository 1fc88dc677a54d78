"""Where do adapters train best? PLoP, PLoP⁻¹, attention, MLP and all (paper, Tables 1 and 2), on GSM8K answers.

python -m experiments.sft [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from experiments.shared.data import called, pairs_of
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, labelled, matched_rank, placements
from experiments.shared.program import Results, main
from experiments.shared.training import QUICK, Bench, Size, told
from experiments.shared.verdicts import NOTE, Found, dots, judged, less, losses, tried, verdict
from plop_cli.words import counted

PLOP, MLP = "PLoP", "MLP"


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """The placements at matched parameters, each at its best learning rate; then at MLP's rank."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    rank = matched_rank(bench.scores, bench.model)
    matched, equal = {}, {}
    for name, placement in placements(bench.scores, bench.model, match=f"mlp:{rank}").items():
        rate = bench.tuned(placement, seeds[:1])[0].rate
        matched[name] = told(placement, [bench.run(placement, rate=rate, seed=seed, solve=True) for seed in seeds])
    for name, placement in placements(bench.scores, bench.model, rank=rank).items():
        rate = matched[name]["runs"][0]["rate"]
        equal[name] = told(placement, [bench.run(placement, rate=rate, seed=seed) for seed in seeds])
    return {
        "setting": bench.setting(),
        "untrained": bench.untrained,
        "matched": matched,
        "equal_rank": equal,
        "solved": bench.solved(),
    }


def right(outcome: dict[str, Any], tested: int) -> list[float]:
    """Of each seed, the share of the test questions that were answered right."""
    return [run["solved"] / tested for run in outcome["runs"]]


def rows(group: dict[str, Any], tested: int) -> list[dict[str, object]]:
    """The placements of a group, lowest loss first; the answers where all were asked for them."""
    solved = all("solved" in run for outcome in group.values() for run in outcome["runs"])
    return [
        {
            "placement": labelled(name, outcome["types"]),
            "rank": outcome["rank"],
            "parameters": f"{outcome['parameters'] / 1e6:.2f} M",
            "learning rate": f"{outcome['runs'][0]['rate']:g}",
            "train loss": show([run["train"] for run in outcome["runs"]]),
            "test loss": show(losses(outcome)),
            "PLoP is lower by": "" if name == PLOP else show(less(group[PLOP], outcome)[0]),
            **({"answers right": show(right(outcome, tested))} if solved else {}),
        }
        for name, outcome in sorted(group.items(), key=lambda item: sum(losses(item[1])))
    ]


def _differences(results: Results) -> tuple[dict[str, list[list[float]]], dict[str, list[list[float]]]]:
    """By how much PLoP's losses are lower: for what the paper compares, and for what it does not."""
    group, equal = results["matched"], results["equal_rank"]
    others = [name for name in group if name not in (PLOP, MLP)]
    paper = {f"PLoP beats {MLP} at equal parameters": less(group[PLOP], group[MLP])}
    paper |= {f"PLoP beats {name} at equal rank": less(equal[PLOP], equal[name]) for name in others}
    return paper, {f"PLoP beats {name}": less(group[PLOP], group[name]) for name in others}


def claims(results: Results) -> dict[str, Found]:
    """What became of PLoP against the other placements."""
    paper, beyond = _differences(results)
    equal = {f"{claim} at equal parameters": samples for claim, samples in beyond.items()}
    return judged(paper) | judged(equal)


def tell(results: Results) -> str:
    setting, group, equal = results["setting"], results["matched"], results["equal_rank"]
    dtype = setting.get("dtype", "bfloat16")
    tested, others = setting["test"], [name for name in group if name != PLOP]
    paper, beyond = _differences(results)
    more = {
        f"PLoP beats {name}": [
            [own - its for own, its in zip(right(group[PLOP], tested), right(group[name], tested), strict=True)]
        ]
        for name in others
    }
    return section(f"""## Placement in supervised fine-tuning

By test loss, what the paper compares: {verdict(paper)} What it does not compare, at equal parameters:
{verdict(beyond)} {NOTE} The lowest mean loss at equal parameters is that of
{min(group, key=lambda name: sum(losses(group[name])))}. By accuracy, at equal parameters, over seeds: {verdict(more)}

**Claimed** (Tables 1 and 2, in accuracy): at equal parameters PLoP is slightly ahead of MLP; at equal rank it beats
PLoP⁻¹ and, clearly, attention, and adapters everywhere, with 1.5 to 1.8 times MLP's parameters, are no better.

**Done:** {called(results)} in {dtype}, LoRA (α = 2r, float32) on question → answer pairs of {pairs_of(results)}
without calculator notes, of at most {setting["longest"]} tokens ({setting["pairs"]} to draw from); {setting["steps"]}
steps of AdamW with {setting["batch"]} pairs, 10 % warmup and a cosine; loss on the answer's tokens. Learning rates
{tried(setting, group)} for each placement, chosen on the first seed by {setting["validation"]} validation pairs;
{counted(len(results["seeds"]), "seed")} (the start, the pairs, their order); loss and answers (greedy, at most 96
tokens, the last number counts) on {tested} test pairs, the same for all. Untrained, the loss is
{results["untrained"]:.3f}, and {results["solved"]} of {tested} answers are right. Parameters are within {apart(group)}
of each other. The paper trains on MetaMathQA for two epochs.

{figure(results, "sft", "Test loss of each placement, every seed")}

{table(rows(group, tested))}

At equal rank, with the same learning rates:

{table(rows(equal, tested))}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    charts = [
        dots(results[group], "placement").properties(title=title)
        for group, title in (("matched", "equal parameters"), ("equal_rank", "equal rank"))
    ]
    return {"sft": alt.vconcat(*charts).resolve_scale(x="shared")}


if __name__ == "__main__":
    main("sft", run, tell, seeds=range(4), data="GSM8K", sizes=(Size(), QUICK))
