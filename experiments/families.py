"""Does a model score as the paper says of its family: the lowest types, history against math, one order on all tasks?

python -m experiments.families [--quick] [--model MODEL] [--seeds S]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import altair as alt

from experiments.shared.data import called, gsm8k, load_model, pairs_of
from experiments.shared.markdown import command, figure, section, table
from experiments.shared.placements import letters
from experiments.shared.program import Results, main
from experiments.shared.verdicts import CANNOT, FAILED, HELD, Found, listed
from plop_cli import score
from plop_cli.method.choice import PLOP
from plop_cli.method.significance import LEVEL, differences, holm, kendall_tau
from plop_cli.texts.tasks import load_task

TASKS = ("math", "code", "history", "logic")
"""The paper's four, as the samples that come with plop: not its texts, but of their kind. GSM8K's own come besides."""

PAPER = {
    "gemma-3": (("k_proj", "v_proj", "up_proj"), "Gemma3-1B (Table 4)"),
    "qwen2.5": (("v_proj", "o_proj", "up_proj"), "Qwen2.5-0.5B (Figure 7)"),
}
"""Where the paper's PLoP adapts a model of a family, by what the names of that family's models have in them."""

ALIKE = 0.6
"""Two orders of seven types whose τ is above this are more alike than chance: it makes them so in 3.5 % of cases."""

LOWEST = "the lowest types are those of the paper's model of the family"
HISTORY = "types score higher on history than on math"
ORDER = "types keep their order over tasks"


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str) -> Results:
    """One pass for each task."""
    network, tokenizer = load_model(model)
    samples = 8 if quick else 64
    texts: dict[str, Sequence[Any]] = {
        name: load_task(f"sample/{name}", samples=samples, seed=seeds[0]).texts for name in TASKS
    }
    texts["GSM8K"] = [pair["question"] for pair in gsm8k("train", data)[:samples]]
    scored = {name: score(network, tokenizer, drawn) for name, drawn in texts.items()}
    history, math = (scored[name] for name in ("history", "math"))
    above, _ = differences(history.nameless(), history.matrix, math.nameless(), math.matrix)
    corrected = holm([difference.p for difference in above.values()])
    return {
        "tasks": {
            name: {
                "nfn": {kind.type: round(kind.nfn, 4) for kind in scores.types},
                "samples": len(scores.matrix.texts),
                "tokens": scores.tokens,
            }
            for name, scores in scored.items()
        },
        "history_above_math": {
            name: {"nfn": difference.nfn, "stderr": difference.stderr, "p": p}
            for (name, difference), p in zip(above.items(), corrected, strict=True)
        },
    }


def claims(results: Results) -> dict[str, Found]:
    """What became of the paper's claims with this model."""
    found = {}
    if expected := _said(results):
        found[LOWEST] = Found(HELD if {*expected[0]} == {*_lowest(results)["math"]} else FAILED)
    above, below = _moved(results)
    most = len(above) > len(results["history_above_math"]) / 2
    found[HISTORY] = Found(FAILED if below else HELD if most else CANNOT)
    found[ORDER] = Found(HELD if min(_taus(results).values()) > ALIKE else FAILED)
    return found


def _said(results: Results) -> tuple[tuple[str, ...], str] | None:
    """What the paper says of the family: the types, and of which model. None where it has no such family."""
    name = results["model"].lower()
    return next((said for mark, said in PAPER.items() if mark in name), None)


def _lowest(results: Results) -> dict[str, list[str]]:
    """For each task the types that PLoP adapts, lowest first."""
    return {task: PLOP.chosen(scored["nfn"]) for task, scored in results["tasks"].items()}


def _moved(results: Results) -> tuple[list[str], list[str]]:
    """The types that score higher and lower on history than on math, by more than chance."""
    sure = {kind: change["nfn"] for kind, change in results["history_above_math"].items() if change["p"] < LEVEL}
    return [kind for kind, change in sure.items() if change > 0], [kind for kind, change in sure.items() if change < 0]


def _taus(results: Results) -> dict[tuple[str, str], float]:
    """Kendall's τ of the order of types, for each two tasks."""
    orders = {task: [value for _, value in sorted(scored["nfn"].items())] for task, scored in results["tasks"].items()}
    return {(one, other): kendall_tau(orders[one], orders[other]) for one, other in combinations(orders, 2)}


def tell(results: Results) -> str:
    taus, lowest, (above, below) = _taus(results), _lowest(results), _moved(results)
    apart = min(taus, key=lambda pair: taus[pair])
    rows = [
        {
            "task": task,
            "texts": scored["samples"],
            "tokens": f"{scored['tokens']:,}",
            "adapted": letters(lowest[task]),
            **{kind: f"{scored['nfn'][kind]:.3f}" for kind in results["tasks"]["math"]["nfn"]},
        }
        for task, scored in results["tasks"].items()
    ]
    expected = _said(results)
    compared = (
        f"Where the paper adapts {expected[1]}: {letters(expected[0])}; here, on math: {letters(lowest['math'])}."
        if expected
        else "The paper has no model of this family."
    )
    order = (
        "On all tasks the types stand in one order."
        if taus[apart] == 1
        else f"The two tasks that order types least alike are {apart[0]} and {apart[1]}, τ = {taus[apart]:.2f}."
    )
    return section(f"""## What the paper says of families

{listed(claims(results))} {compared} On history {len(above)} of {len(results["history_above_math"])} types score higher
than on math, and {len(below)} lower (p < {LEVEL}, Welch, corrected by Holm). {order}

**Claimed** (Section 3, Figure 5, Table 4): weights are more aligned with history than with math; all tasks share a base
level for each type; and models of one family rank the types alike.

**Done:** {called(results)} in float32 on the four samples that come with plop and on questions of
{pairs_of(results)}. History scores higher where more than half of the types do, and none lower; an order is kept where
τ of every two tasks is above {ALIKE}, which chance gives in 3.5 % of cases with seven types.

{figure(results, "families", "NFN of each type on four tasks")}

{table(rows)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    points = [
        {"type": kind, "NFN": value, "task": task}
        for task, scored in results["tasks"].items()
        for kind, value in scored["nfn"].items()
    ]
    chart = alt.Chart(alt.InlineData(values=points)).mark_point(filled=True, size=50)
    nfn, order = alt.X("NFN:Q", scale=alt.Scale(zero=False)), alt.EncodingSortField("NFN", op="mean")
    return {
        "families": chart.encode(nfn, alt.Y("type:N", sort=order, title=None), color="task:N").properties(width=420)
    }


if __name__ == "__main__":
    main("families", run, tell, seeds=[0], data="GSM8K")
