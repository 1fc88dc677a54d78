"""Do the choices that are made without data train as well? The types that PLoP's peers would adapt, equally large.

python -m experiments.peers [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
from peft.helpers import find_kappa_target_modules

from experiments.shared.baselines import orders
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, letters, matched_rank, of_modules, placements
from experiments.shared.program import Results, main
from experiments.shared.training import QUICK, Bench, Size, told
from experiments.shared.verdicts import NOTE, SAME, Found, dots, judged, less, losses, tried, verdict
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
    for name, order in orders(network).items():
        chosen[name] = recommend(
            scores, targets=order[: len(scores.recommended)], model=network, match=match, rounding="nearest"
        )
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


def _same(results: Results) -> list[str]:
    """The peers that choose the very modules that PLoP chooses."""
    plop = results["choices"][PLOP]
    return [
        name
        for name, outcome in results["choices"].items()
        if name != PLOP and outcome["shared"] == plop["modules"] == outcome["modules"]
    ]


def _differences(results: Results) -> dict[str, list[list[float]]]:
    """By how much PLoP's losses are below those of the peers that choose otherwise."""
    outcomes, alike = results["choices"], (PLOP, *_same(results))
    others = {name: outcome for name, outcome in outcomes.items() if name not in alike}
    return {f"PLoP beats choosing by {name}": less(outcomes[PLOP], outcome) for name, outcome in others.items()}


def claims(results: Results) -> dict[str, Found]:
    """What became of PLoP against its peers."""
    same = {f"PLoP beats choosing by {name}": Found(SAME) for name in _same(results)}
    return same | judged(_differences(results))


def tell(results: Results) -> str:
    setting, outcomes = results["setting"], results["choices"]
    plop, same, differences = outcomes[PLOP], _same(results), _differences(results)
    agreed = f"By {', '.join(same)} the same types are chosen as by PLoP, and so they train the same. " if same else ""
    decided = f"{verdict(differences)} {NOTE}" if differences else ""
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

{figure(results, "peers", "Test loss of each choice, every seed")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    return {"peers": dots(results["choices"], "choice")}


if __name__ == "__main__":
    main("peers", run, tell, seeds=range(4), data="GSM8K", sizes=(Size(), QUICK))
