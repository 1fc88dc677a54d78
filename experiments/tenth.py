"""Does the place matter more where adapters are few? Every placement and every peer's, at a tenth of the parameters.

python -m experiments.tenth [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt

from experiments.shared.baselines import orders
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, letters, matched
from experiments.shared.program import Results, main
from experiments.shared.training import QUICK, Bench, Size, told
from experiments.shared.verdicts import NOTE, SAME, Found, dots, judged, less, losses, tried, verdict
from plop_cli import recommend
from plop_cli.placement.ranks import rank_for
from plop_cli.words import counted

PLOP, SHARE = "PLoP", 0.1


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """Each placement at its best learning rate, and at the rank at which it is nearest to a tenth of its full size."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    scores, network = bench.scores, bench.model
    full = matched(scores, network)
    types = {name: sorted({module.type for module in placement.modules}) for name, placement in full.items()}
    types |= {f"by {name}": order[: len(scores.recommended)] for name, order in orders(network).items()}
    parameters = SHARE * full[PLOP].trainable_parameters
    outcomes = {}
    for name, targets in types.items():
        least = recommend(scores, targets=targets, model=network, rank=1).trainable_parameters
        rank = max(1, rank_for(parameters, least, "nearest"))
        placement = recommend(scores, targets=targets, model=network, rank=rank)
        outcomes[name] = told(placement, bench.tuned(placement, seeds))
    return {"setting": bench.setting(), "untrained": bench.untrained, "placements": outcomes}


def _same(results: Results) -> list[str]:
    """The placements that take the very types that PLoP takes."""
    outcomes = results["placements"]
    return [name for name, one in outcomes.items() if name != PLOP and one["types"] == outcomes[PLOP]["types"]]


def _differences(results: Results) -> dict[str, list[list[float]]]:
    """By how much PLoP's losses are below those of the placements that are others."""
    outcomes, alike = results["placements"], (PLOP, *_same(results))
    return {_claim(name): less(outcomes[PLOP], one) for name, one in outcomes.items() if name not in alike}


def _claim(name: str) -> str:
    return f"PLoP beats {name.replace('by ', 'choosing by ')} at a tenth of the parameters"


def claims(results: Results) -> dict[str, Found]:
    """What became of PLoP against the others where adapters are few."""
    return {_claim(name): Found(SAME) for name in _same(results)} | judged(_differences(results))


def tell(results: Results) -> str:
    setting, outcomes, same = results["setting"], results["placements"], _same(results)
    found = {claim.removesuffix(" at a tenth of the parameters"): of for claim, of in _differences(results).items()}
    agreed = f" {', '.join(same)[:1].upper()}{', '.join(same)[1:]} the same types are chosen." if same else ""
    listed = [
        {
            "placement": name,
            "types": letters(outcome["types"]),
            "rank": outcome["rank"],
            "parameters": f"{outcome['parameters'] / 1e6:.2f} M",
            "learning rate": f"{outcome['runs'][0]['rate']:g}",
            "test loss": show(losses(outcome)),
            "PLoP is lower by": "" if name == PLOP else show(less(outcomes[PLOP], outcome)[0]),
        }
        for name, outcome in sorted(outcomes.items(), key=lambda item: sum(losses(item[1])))
    ]
    return section(f"""## Placement where adapters are few

{verdict(found)} {NOTE}{agreed}

**Asked:** with few parameters a wrong place should hurt most. Does PLoP win there?

**Done:** the setting of supervised fine-tuning above ({setting["steps"]} steps of {setting["batch"]} pairs,
{counted(len(results["seeds"]), "seed")}), each placement at the best of the learning rates {tried(setting, outcomes)}
and at the rank, from 1 on, at which it comes nearest to a tenth of the parameters there; ranks being whole, they are
within {apart(outcomes)} of each other. Untrained, the loss is {results["untrained"]:.3f}.

{figure(results, "tenth", "Test loss of each placement at a tenth of the parameters, every seed")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"tenth": dots(results["placements"], "placement")}


if __name__ == "__main__":
    main("tenth", run, tell, seeds=range(4), data="GSM8K", sizes=(Size(), QUICK))
