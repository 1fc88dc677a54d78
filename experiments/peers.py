"""Do the choices that are made without data train as well? The types that PLoP's peers would adapt, equally large.

python -m experiments.peers [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
from peft.helpers import find_kappa_target_modules

from experiments.shared.baselines import CHOICES
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, letters, matched_rank, of_modules, placements
from experiments.shared.program import Results, main
from experiments.shared.training import QUICK, Bench, Size, told
from experiments.shared.verdicts import NOTE, dots, less, losses, tried, verdict
from plop_cli import recommend
from plop_cli.words import counted

PLOP, MODULES = "PLoP", "condition number of modules"


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """PLoP and its peers, each at its best learning rate; and PEFT's own choice, which is of modules."""
    bench = Bench(size, model=model, data=data, keep=not quick)
    scores, network = bench.scores, bench.model
    match = f"mlp:{matched_rank(scores, network)}"
    plop = placements(scores, network, match=match)[PLOP]
    chosen = {PLOP: plop}
    for name, ranked in CHOICES.items():
        types = ranked(network)[: len(scores.recommended)]
        chosen[name] = recommend(scores, targets=types, model=network, match=match, rounding="nearest")
    share = len(plop.modules) / len(scores.modules)
    names = find_kappa_target_modules(network, top_p=share, show_progress=False)["target_modules"]
    chosen[MODULES] = of_modules(plop, names, scores, network)
    outcomes = {}
    for name, placement in chosen.items():
        outcomes[name] = {
            **told(placement, bench.tuned(placement, seeds)),
            "shared": len({*placement.modules} & {*plop.modules}),
        }
    return {"setting": bench.setting(), "untrained": bench.untrained, "choices": outcomes}


def tell(results: Results) -> str:
    setting, outcomes = results["setting"], results["choices"]
    plop = outcomes[PLOP]
    same = [
        name
        for name, outcome in outcomes.items()
        if name != PLOP and outcome["shared"] == plop["modules"] == outcome["modules"]
    ]
    others = [name for name in outcomes if name not in (PLOP, *same)]
    agreed = f"By {', '.join(same)} the same types are chosen as by PLoP, and so they train the same. " if same else ""
    claims = {f"PLoP beats choosing by {name}": less(plop, outcomes[name]) for name in others}
    decided = f"{verdict(claims)} {NOTE}" if claims else ""
    listed = [
        {
            "chosen by": name,
            "types": letters(outcome["types"]),
            "modules": outcome["modules"],
            "as PLoP": outcome["shared"],
            "rank": outcome["rank"],
            "parameters": f"{outcome['parameters'] / 1e6:.2f} M",
            "test loss": show(losses(outcome)),
            "learning rate": f"{outcome['runs'][0]['rate']:g}",
            "PLoP is lower by": "" if name == PLOP else show(less(plop, outcome)[0]),
        }
        for name, outcome in outcomes.items()
    ]
    return section(f"""## Choices made without data

{agreed}{decided}

**Asked:** peers choose by the weights alone. Does their choice train as well as PLoP's?

**Done:** the setting of supervised fine-tuning above ({setting["steps"]} steps of {setting["batch"]} pairs,
{counted(len(results["seeds"]), "seed")}), each choice at the best of the learning rates {tried(setting, outcomes)}; as
many types or modules as PLoP takes, parameters within {apart(outcomes)} of each other. Types go by the mean of their
modules; PEFT's `find_kappa_target_modules` takes single modules, wherever they are.

{figure("peers", "Test loss of each choice, every seed")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"peers": dots(results["choices"], "choice")}


if __name__ == "__main__":
    main("peers", run, tell, seeds=range(4), data="GSM8K", sizes=(Size(), QUICK))
