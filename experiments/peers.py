"""Do the choices that are made without data train as well? The types that PLoP's peers would adapt, equally large.

python -m experiments.peers [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
from peft.helpers import find_kappa_target_modules

from experiments.baselines import CHOICES
from experiments.common import Results, command, figure, main, show, table
from experiments.outcomes import dots, less, losses, section, verdict
from experiments.placements import described, letters, matched_rank, of_modules, placements
from experiments.training import QUICK, Bench, Size
from plop_cli import recommend

PLOP, MODULES = "PLoP", "condition number of modules"


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """PLoP and its peers at the learning rate that is best for PLoP; and PEFT's own choice, which is of modules."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    scores, network = bench.scores, bench.model
    match = f"mlp:{matched_rank(scores, network)}"
    plop = placements(scores, network, match=match)[PLOP]
    rate = bench.tuned(plop, seeds)[0].rate
    chosen = {PLOP: plop}
    for name, ranked in CHOICES.items():
        types = ranked(network)[: len(scores.recommended)]
        chosen[name] = recommend(scores, targets=types, model=network, match=match, rounding="nearest")
    share = len(plop.modules) / len(scores.modules)
    names = find_kappa_target_modules(network, top_p=share, show_progress=False)["target_modules"]
    chosen[MODULES] = of_modules(plop, names, scores, network)
    found = {}
    for name, one in chosen.items():
        runs = [bench.run(one, rate=rate, seed=seed).summary() for seed in seeds]
        found[name] = {**described(one), "shared": len({*one.modules} & {*plop.modules}), "runs": runs}
    return {"setting": bench.setting(), "untrained": bench.untrained, "choices": found}


def tell(results: Results) -> str:
    setting, found = results["setting"], results["choices"]
    plop = found[PLOP]
    same = [name for name, one in found.items() if name != PLOP and one["shared"] == plop["modules"] == one["modules"]]
    others = [name for name in found if name not in (PLOP, *same)]
    agreed = f"The {' and the '.join(same)} choose the same types as PLoP, and so train the same. " if same else ""
    claims = {f"PLoP has a lower test loss than the {name}": less(plop, found[name]) for name in others}
    sizes = [one["parameters"] for one in found.values()]
    listed = [
        {
            "chosen by": name,
            "types": letters(one["types"]),
            "modules": one["modules"],
            "as PLoP": one["shared"],
            "rank": one["rank"],
            "parameters": f"{one['parameters'] / 1e6:.2f} M",
            "test loss": show(losses(one)),
            "above PLoP": "" if name == PLOP else show(less(plop, one)),
        }
        for name, one in found.items()
    ]
    return section(f"""## Choices made without data

{agreed}{verdict(claims)} In brackets: by how much, in nats per token, paired by seed.

**Asked:** peers choose by the weights alone. Does their choice train as well as PLoP's?

**Done:** the setting of supervised fine-tuning above ({setting["steps"]} steps of {setting["batch"]} pairs,
{len(results["seeds"])} seeds), all at PLoP's learning rate of {plop["runs"][0]["rate"]:g}, as many types or modules as
PLoP takes, parameters within {max(sizes) / min(sizes) - 1:.1%} of each other. Types go by the mean of their modules;
PEFT's `find_kappa_target_modules` takes single modules, wherever they are.

{figure("peers", "Test loss of each choice, every seed")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"peers": dots(results["choices"], "choice")}


if __name__ == "__main__":
    main("peers", run, tell, seeds=range(6), data="GSM8K", sizes=(Size(), QUICK))
