"""What a race adds to a report, in plain rows: what NFN said beside what was found, and the learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from plop_cli.racing.sentences import plus_minus, verdict
from plop_cli.racing.verdicts import finals, stand, winner
from plop_cli.report.palette import SERIES, Row
from plop_registry import Race, Run

SMOOTHED = 5
"""Steps over which a learning curve is averaged."""


def races_of(races: Sequence[Race], runs: Sequence[Run]) -> tuple[Race, ...]:
    """Those of the models of these runs that have a finished lap."""
    models = {run.model_id for run in runs}
    return tuple(race for race in races if race.model_id in models and winner(race))


def table(race: Race) -> list[Row]:
    """A row for each contestant, lowest test loss first; `nfn` is the mean of its types, None where it is unknown."""
    chosen = winner(race)
    rows = []
    for each in stand(race):
        known = [race.nfn[name] for name in each.entry.types if name in race.nfn]
        rows.append(
            {
                "name": each.entry.name,
                "types": ", ".join(each.entry.types),
                "nfn": fmean(known) if len(known) == len(each.entry.types) else None,
                "rank": each.entry.rank,
                "parameters": f"{each.entry.parameters:,}",
                "rate": "–" if math.isnan(each.rate) else f"{each.rate:g}",
                "loss": plus_minus(each.loss),
                "difference": plus_minus(each.behind, sign=True) if each.behind else "",
                "verdict": verdict(each),
                "chosen": bool(chosen and each.entry == chosen.entry),
            }
        )
    return rows


def curves(race: Race) -> list[Row]:
    """The training loss of each contestant, the mean over its seeds and over a few steps; the first few contestants."""
    rows = []
    for each in [standing for standing in stand(race) if standing.seeds][:SERIES]:
        laps = finals(race, each.entry)
        losses = np.mean([laps[seed].train.astype(float) for seed in each.seeds], axis=0)
        for end in range(min(SMOOTHED, len(losses)), len(losses) + 1):
            mean = float(losses[max(0, end - SMOOTHED) : end].mean())
            rows.append({"step": end, "loss": round(mean, 5), "series": each.entry.name})
    return rows
