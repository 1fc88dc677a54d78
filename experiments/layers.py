"""Whole types or single modules? With one budget, three ways to choose by NFN (paper, Section 6, left open there).

python -m experiments.layers [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import altair as alt

from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, matched_rank, of_modules, placements
from experiments.shared.program import Results, main
from experiments.shared.training import QUICK, Bench, Size, told
from experiments.shared.verdicts import NOTE, dots, less, losses, tried, verdict
from plop_cli import Placement, recommend
from plop_cli.words import counted

TYPES, SINGLE, RELATIVE = "lowest types", "lowest modules", "lowest within their type"


def choices(bench: Bench) -> dict[str, Placement]:
    """As many modules each, and about as many parameters."""
    match = f"mlp:{matched_rank(bench.scores, bench.model)}"
    types = placements(bench.scores, bench.model, match=match)["PLoP"]
    single = recommend(bench.scores, by="module", model=bench.model, match=match, rounding="nearest")
    within = of_modules(types, relative(bench, len(types.modules)), bench.scores, bench.model)
    return {TYPES: types, SINGLE: single, RELATIVE: within}


def relative(bench: Bench, count: int) -> list[str]:
    """The modules with the lowest NFN as a share of their type's."""
    mean = {kind.type: kind.nfn for kind in bench.scores.types}
    ranked = sorted(bench.scores.modules, key=lambda module: module.nfn / mean[module.type])
    return [module.name for module in ranked[:count]]


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """Each choice at its best learning rate."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    outcomes = {}
    chosen = choices(bench)
    for name, placement in chosen.items():
        held = dict(Counter(module.type for module in placement.modules))
        shared = len({*placement.matched_modules} & {*chosen[TYPES].matched_modules})
        outcomes[name] = {**told(placement, bench.tuned(placement, seeds)), "held": held, "shared": shared}
    return {"setting": bench.setting(), "untrained": bench.untrained, "choices": outcomes}


def tell(results: Results) -> str:
    setting, outcomes = results["setting"], results["choices"]
    claims = {
        f"{SINGLE} beat {TYPES}": less(outcomes[SINGLE], outcomes[TYPES]),
        f"{RELATIVE} beat {TYPES}": less(outcomes[RELATIVE], outcomes[TYPES]),
    }
    listed = [
        {
            "choice": name,
            "modules": ", ".join(f"{count} {kind.split('_')[0]}" for kind, count in outcome["held"].items()),
            "as in types": outcome["shared"],
            "rank": outcome["rank"],
            "parameters": f"{outcome['parameters'] / 1e6:.2f} M",
            "test loss": show(losses(outcome)),
            "learning rate": f"{outcome['runs'][0]['rate']:g}",
            f"below {TYPES}": "" if name == TYPES else show(less(outcome, outcomes[TYPES])[0]),
        }
        for name, outcome in outcomes.items()
    ]
    return section(f"""## Types or single modules

{verdict(claims)} {NOTE}

**Left open** (Section 6): whether something finer than types should be chosen; for layers the paper found inconsistent
results.

**Done:** the setting of supervised fine-tuning above ({setting["steps"]} steps of {setting["batch"]} pairs,
{counted(len(results["seeds"]), "seed")}), each choice at the best of the learning rates {tried(setting, outcomes)};
{outcomes[TYPES]["modules"]} modules in each, and parameters within {apart(outcomes)} of each other. The choices: the
types with the lowest NFN in every layer (PLoP); the modules with the lowest NFN wherever they are; the modules whose
NFN is lowest as a share of the mean of their type.

{figure(results, "layers", "Test loss of each choice, every seed")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"layers": dots(results["choices"], "choice")}


if __name__ == "__main__":
    main("layers", run, tell, seeds=range(4), data="GSM8K", sizes=(Size(), QUICK))
