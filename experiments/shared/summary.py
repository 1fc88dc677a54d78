"""What became of every claim with every model, on one screen; and what the models say together.

A program that judges claims has `claims(results)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from experiments.shared.markdown import section, table
from experiments.shared.program import RESULTS, Results, kept_runs
from experiments.shared.verdicts import Found, pooled

Everything = Mapping[str, Mapping[str, Results]]
"""For each program the results with each model that it ran with in full."""


def summary(everything: Everything, titles: Mapping[str, str]) -> str:
    """A table of claims × models, each verdict with a link to its section; then the claims over several models."""
    judged = _judged(everything)
    models = list(dict.fromkeys(model for by_model in everything.values() for model in by_model))
    rows = [
        {"claim": claim} | {model: _cell(found.get(model), model, models[0], titles[program]) for model in models}
        for (program, claim), found in judged.items()
    ]
    blocks = ["## Summary", f"A dash: not tried with that model, or nothing to say of it. {_hours(everything)}"]
    blocks.append(table(rows))
    effects = {claim: found for (_, claim), found in judged.items() if sum(map(_measured, found.values())) > 1}
    if effects:
        blocks += [_OVER_MODELS, table([_pooled_row(claim, found, models) for claim, found in effects.items()])]
    singles = everything.get("singles", {})
    if len(singles) > 1:
        blocks += [_PREDICTORS, table(_predictors(singles))]
    return section("\n\n".join(blocks))


_OVER_MODELS = """By how much the test loss of PLoP is below the other's, in nats per token ± the standard error; and
over models, as a random effect (DerSimonian and Laird), with the 95 % interval of Hartung and Knapp: with so few models
it is wide."""

_PREDICTORS = """Spearman's ρ of the gain of single types with what would have predicted it (−1 predicts perfectly), and
over models with a 95 % interval (Fisher's z, random effects):"""


def titled(text: str, model: str, *, below: bool) -> str:
    """A program's section with the model in its heading; `below` the program's first."""
    heading, _, rest = text.partition("\n")
    return f"{'#' * below}{heading}, {model}\n{rest}"


def anchor(title: str) -> str:
    """Where a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _judged(everything: Everything) -> dict[tuple[str, str], dict[str, Found]]:
    """For each program's claims what was found with each model."""
    found: dict[tuple[str, str], dict[str, Found]] = {}
    for program, by_model in everything.items():
        module = import_module(f"experiments.{program}")
        if hasattr(module, "claims"):
            for model, results in by_model.items():
                for claim, one in module.claims(results).items():
                    found.setdefault((program, claim), {})[model] = one
    return found


def _cell(found: Found | None, model: str, first: str, title: str) -> str:
    if found is None:
        return "–"
    return f"[{found.verdict}](#{anchor(title if model == first else f'{title}, {model}')})"


def _measured(found: Found) -> bool:
    return not math.isnan(found.effect + found.error)


def _pooled_row(claim: str, found: Mapping[str, Found], models: list[str]) -> dict[str, Any]:
    known = {model: one for model, one in found.items() if _measured(one)}
    mean, half = pooled([one.effect for one in known.values()], [one.error for one in known.values()])
    by_model = {m: f"{known[m].effect:+.3f} ± {known[m].error:.3f}" if m in known else "–" for m in models}
    return {"claim": claim, **by_model, "over models": f"{mean:+.3f} ± {half:.3f}"}


def _predictors(singles: Mapping[str, Results]) -> list[dict[str, Any]]:
    program = import_module("experiments.singles")
    by_model = {model: program.correlations(results) for model, results in singles.items()}
    errors = [math.sqrt(1.06 / (len(results["types"]) - 3)) for results in singles.values()]
    rows = []
    for name in next(iter(by_model.values())):
        rhos = [found[name] for found in by_model.values()]
        mean, half = pooled([math.atanh(max(-0.999, min(0.999, rho))) for rho in rhos], errors)
        over = f"{math.tanh(mean):+.2f} ({math.tanh(mean - half):+.2f} to {math.tanh(mean + half):+.2f})"
        told = {model: f"{rho:+.2f}" for model, rho in zip(by_model, rhos, strict=True)}
        rows.append({"predicted by": name, **told, "over models": over})
    return rows


def _hours(everything: Everything) -> str:
    """What all of it took."""
    seconds = sum(results["seconds"] for by_model in everything.values() for results in by_model.values())
    kept = [run for file in RESULTS.glob("runs*.jsonl") for run in kept_runs(file)]
    timed = [run["seconds"] for run in kept if "seconds" in run]
    told = f"the {len(timed)} that say how long took {sum(timed) / 3600:.1f} hours of a core"
    before = f"{len(kept)} trainings are kept, most made before them, two at a time; {told}"
    return f"The commands below took {seconds / 3600:.1f} hours. {before}."
