"""Whole types or single modules? With one budget, three ways to choose by NFN (paper, Section 6, left open there).

python -m experiments.layers [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import altair as alt

from experiments.common import Results, command, figure, main, show, table
from experiments.outcomes import dots, less, losses, rates, section, verdict
from experiments.placements import described, matched_rank, of_modules, placements
from experiments.training import QUICK, Bench, Size
from plop_cli import Placement, recommend

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
    """Each choice at the learning rate that is best for whole types."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    found = {}
    chosen = choices(bench)
    rate = bench.tuned(chosen[TYPES], seeds)[0].rate
    for name, one in chosen.items():
        runs = [bench.run(one, rate=rate, seed=seed).summary() for seed in seeds]
        held = dict(Counter(module.type for module in one.modules))
        shared = len({*one.matched_modules} & {*chosen[TYPES].matched_modules})
        found[name] = {**described(one), "held": held, "shared": shared, "runs": runs}
    return {"setting": bench.setting(), "untrained": bench.untrained, "choices": found}


def tell(results: Results) -> str:
    setting, found = results["setting"], results["choices"]
    sizes = [one["parameters"] for one in found.values()]
    claims = {
        f"{SINGLE} have a lower test loss than {TYPES}": less(found[SINGLE], found[TYPES]),
        f"{RELATIVE} have a lower test loss than {TYPES}": less(found[RELATIVE], found[TYPES]),
    }
    listed = [
        {
            "choice": name,
            "modules": ", ".join(f"{count} {kind.split('_')[0]}" for kind, count in one["held"].items()),
            "as in types": one["shared"],
            "rank": one["rank"],
            "parameters": f"{one['parameters'] / 1e6:.2f} M",
            "test loss": show(losses(one)),
            f"below {TYPES}": "" if name == TYPES else show(less(one, found[TYPES])),
        }
        for name, one in found.items()
    ]
    return section(f"""## Types or single modules

{verdict(claims)} In brackets: by how much, in nats per token, paired by seed.

**Left open** (Section 6): whether choosing single modules by NFN beats choosing types.

**Done:** the setting of supervised fine-tuning above ({setting["steps"]} steps of {setting["batch"]} pairs,
{len(results["seeds"])} seeds), at the learning rate of {rates(setting)} that is best for whole types,
{found[TYPES]["runs"][0]["rate"]:g}; {found[TYPES]["modules"]} modules in each choice, and parameters within
{max(sizes) / min(sizes) - 1:.1%} of each other. The choices: the types with the lowest NFN in every layer (PLoP); the
modules with the lowest NFN wherever they are; the modules whose NFN is lowest as a share of the mean of their type.

{figure("layers", "Test loss of each choice, every seed")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"layers": dots(results["choices"], "choice")}


if __name__ == "__main__":
    main("layers", run, tell, seeds=range(6), data="GSM8K", sizes=(Size(), QUICK))
