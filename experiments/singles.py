"""Does a low NFN before training tell where training helps? Adapters on one module type at a time, equally large.

python -m experiments.singles [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import altair as alt

from experiments.shared.baselines import orders
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart
from experiments.shared.program import Results, main
from experiments.shared.training import QUICK, Bench, Size, told
from experiments.shared.verdicts import CANNOT, FAILED, HELD, Found, losses, spearman, tried
from plop_cli import recommend
from plop_cli.method.significance import LEVEL
from plop_cli.words import counted

AS_LARGE_AS = "mlp:4"
SIZE = Size(rates=(2e-3, 4e-3))
"""Larger rates than for several types: these adapters are few."""


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """Each type alone, at its best learning rate."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    outcomes = {}
    for kind in bench.scores.types:
        placement = recommend(
            bench.scores, targets=[kind.type], model=bench.model, match=AS_LARGE_AS, rounding="nearest"
        )
        outcomes[kind.type] = {"nfn": kind.nfn, **told(placement, bench.tuned(placement, seeds))}
    return {"setting": bench.setting(), "untrained": bench.untrained, "types": outcomes, "orders": orders(bench.model)}


def _gains(results: Results) -> dict[str, list[float]]:
    """By how much each type's adapters lowered the test loss, for each seed."""
    untrained = results["untrained"]
    return {kind: [untrained - loss for loss in losses(outcome)] for kind, outcome in results["types"].items()}


def correlations(results: Results) -> dict[str, float]:
    """Spearman's ρ of the gain with NFN, and with the orders in which peers would choose: −1 is a perfect predictor."""
    types, mean = results["types"], [fmean(gain) for gain in _gains(results).values()]
    orders = {name: [order.index(kind) for kind in types] for name, order in results["orders"].items()}
    ranks = {"NFN": [float(outcome["nfn"]) for outcome in types.values()], **orders}
    return {name: spearman(values, mean)[0] for name, values in ranks.items()}


def claims(results: Results) -> dict[str, Found]:
    """What became of NFN as a predictor of gain."""
    nfn = [float(outcome["nfn"]) for outcome in results["types"].values()]
    rho, p = spearman(nfn, [fmean(gain) for gain in _gains(results).values()])
    return {"a lower NFN means a larger gain": Found(CANNOT if p > LEVEL else HELD if rho < 0 else FAILED)}


def tell(results: Results) -> str:
    setting, types, gains = results["setting"], results["types"], _gains(results)
    mean = {kind: fmean(gain) for kind, gain in gains.items()}
    nfn = [float(outcome["nfn"]) for outcome in types.values()]
    rho, p = spearman(nfn, list(mean.values()))
    by_seed = [spearman(nfn, [gain[seed] for gain in gains.values()])[0] for seed in range(len(results["seeds"]))]
    lowest = min(types, key=lambda kind: float(types[kind]["nfn"]))
    largest = max(mean, key=lambda kind: mean[kind])
    (found,) = claims(results).values()
    others = ", ".join(f"{name} {value:+.2f}" for name, value in correlations(results).items() if name != "NFN")
    listed = [
        {
            "type": kind,
            "NFN": f"{outcome['nfn']:.3f}",
            "rank": outcome["rank"],
            "learning rate": f"{outcome['runs'][0]['rate']:g}",
            "gain": show(gains[kind]),
        }
        for kind, outcome in types.items()
    ]
    return section(f"""## A low score and a large gain

**{found.verdict.capitalize()}:** that a lower NFN means a larger gain. Over the {len(types)} types Spearman's ρ between
NFN before training and the gain is {rho:+.2f} (−1 would be the claim at its purest; p = {p:.2f} by permutation; seed by
seed {", ".join(f"{value:+.2f}" for value in by_seed)}). {lowest} has the lowest NFN, {largest} the largest gain. For
the orders in which peers would choose, without data, ρ with the gain is: {others}.

**Claimed** (Section 3): types with low NFN are where adaptation is needed.

**Done:** the setting of the section before, but adapters on one type at a time,
{types[lowest]["parameters"] / 1e6:.2f} M parameters each (within {apart(types)}),
{counted(len(results["seeds"]), "seed")}, {setting["steps"]} steps, for each type the best by validation loss of the
learning rates {tried(setting, types)}. Gain: the test loss of the untrained model,
{results["untrained"]:.3f}, minus that after training.

{figure(results, "singles", "Gain of each type against its NFN")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    points = [
        {"type": kind, "NFN before training": outcome["nfn"], "gain": results["untrained"] - loss}
        for kind, outcome in results["types"].items()
        for loss in losses(outcome)
    ]
    base = alt.Chart(alt.InlineData(values=points)).encode(
        alt.X("NFN before training:Q", scale=alt.Scale(zero=False)),
        alt.Y("gain:Q", title="gain", scale=alt.Scale(zero=False)),
    )
    names = base.mark_text(dx=8, align="left").encode(alt.Y("mean(gain):Q", title="gain"), text="type:N")
    return {"singles": (base.mark_point(filled=True) + names).properties(width=420, height=260)}


if __name__ == "__main__":
    main("singles", run, tell, seeds=range(3), data="GSM8K", sizes=(SIZE, QUICK))
