"""What trained placements say: losses, paired differences, verdicts on claims, and a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from experiments.shared.markdown import show
from plop_cli.method.significance import LEVEL, critical, holm, two_sided

Outcome = Mapping[str, Any]
"""What the results hold about a placement: among others its `runs`, and with them the mean loss of each test pair."""

NOTE = """In brackets: by how much, in nats per token, with 95 % intervals over seeds and over test pairs; a claim is
decided where both, corrected for being several (Holm), are beyond chance."""


def losses(outcome: Outcome) -> list[float]:
    """The test loss of each seed."""
    return [float(run["loss"]) for run in outcome["runs"]]


def less(outcome: Outcome, than: Outcome) -> list[list[float]]:
    """By how much the test loss is below another placement's: for each seed, and for each test pair."""
    sides = [(losses(outcome), losses(than)), (outcome["pairs"], than["pairs"])]
    return [[other - own for own, other in zip(*side, strict=True)] for side in sides]


def tried(setting: Outcome, group: Mapping[str, Outcome]) -> str:
    """The learning rates that were tried, and for what the best is at an end of them, so that another may be better."""
    ends = (min(setting["rates"]), max(setting["rates"]))
    beyond = [name for name, outcome in group.items() if outcome["runs"][0]["rate"] in ends]
    names = "all" if len(beyond) == len(group) else ", ".join(beyond)
    said = ", ".join(f"{rate:g}" for rate in setting["rates"])
    return said + (f" (an end of the range was best for {names})" if beyond and ends[0] < ends[1] else "")


@dataclass(frozen=True)
class Found:
    """What became of a claim: the verdict, and where it is about a difference, its mean and standard error.

    The error has seeds and test pairs in it, as if they were independent: what both share counts twice.
    """

    verdict: str
    effect: float = math.nan
    error: float = math.nan


SAME = "the same choice"
HELD, FAILED, CANNOT = "held", "did not hold", "could not be told"


def judged(claims: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Found]:
    """Which claims hold. A claim has samples of differences that are above zero where it is true.

    It is decided where Student's t finds each sample's mean beyond chance, at most 5 % risk of even one error among the
    claims.
    """
    corrected = holm([float(np.max([_chance(sample) for sample in samples])) for samples in claims.values()])
    found = {}
    for (claim, samples), p in zip(claims.items(), corrected, strict=True):
        effect = statistics.fmean(samples[0])
        decided = HELD if effect > 0 else FAILED
        found[claim] = Found(decided if p < LEVEL else CANNOT, effect, math.hypot(*map(_error, samples)))
    return found


def verdict(claims: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """One paragraph: which claims failed, which held, which these runs cannot tell; with their differences."""
    found = judged(claims)
    return listed({f"{claim} ({shown(samples)})": found[claim] for claim, samples in claims.items()})


def listed(found: Mapping[str, Found]) -> str:
    """Claims by their verdicts: "**Did not hold:** this; that. **Held:** …"."""
    groups = {name: [claim for claim, one in found.items() if one.verdict == name] for name in (FAILED, HELD, CANNOT)}
    return " ".join(f"**{name.capitalize()}:** {'; '.join(claims)}." for name, claims in groups.items() if claims)


def pooled(effects: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The mean effect over families and half of its 95 % interval: random effects, as families differ in truth too.

    Weights after DerSimonian and Laird; the interval is Hartung's and Knapp's, Student's t of one less than there are
    families, and no narrower than the errors alone would make it.
    """
    y, v = np.asarray(effects), np.square(errors)
    w = 1 / v
    spread = float((w * (y - (w * y).sum() / w.sum()) ** 2).sum())
    between = max(0.0, (spread - (len(y) - 1)) / float(w.sum() - (w**2).sum() / w.sum()))
    w = 1 / (v + between)
    mean = float((w * y).sum() / w.sum())
    scale = max(1.0, float((w * (y - mean) ** 2).sum()) / (len(y) - 1))
    quantile = critical(lambda t: two_sided(t, 1.0, len(y) - 1))
    return mean, quantile * math.sqrt(scale / float(w.sum()))


def shown(samples: Sequence[Sequence[float]]) -> str:
    """The mean, and the interval of each sample: "0.012 ± 0.004, ± 0.007"."""
    first, *others = [show(sample) for sample in samples]
    return ", ".join([first, *("±" + other.partition("±")[2] for other in others)])


def _error(differences: Sequence[float]) -> float:
    """The standard error of the mean; NaN where one value tells no spread."""
    return statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan


def _chance(differences: Sequence[float]) -> float:
    """How often chance alone makes a mean so far from zero; NaN where one value tells no spread."""
    return two_sided(statistics.fmean(differences), _error(differences), len(differences) - 1)


def spearman(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Spearman's ρ of values without ties, and how often chance makes as large a |ρ| (of 10,000 permutations)."""
    ranks, other = np.argsort(np.argsort([first, second]))
    draw = np.random.default_rng(0)
    gaps = np.array(
        [np.square(ranks - order).sum() for order in (other, *(draw.permutation(other) for _ in range(10**4)))]
    )
    rho = 1 - 6 * gaps / (len(ranks) ** 3 - len(ranks))
    return float(rho[0]), float(np.mean(np.abs(rho[1:]) > abs(rho[0]) - 1e-9))


def dots(group: Mapping[str, Outcome], kind: str) -> Any:
    """Test losses: a point for each seed, a line at their mean; the lowest on top."""
    points = [
        {kind: name, "test loss": loss, "seed": str(run["seed"])}
        for name, outcome in group.items()
        for run, loss in zip(outcome["runs"], losses(outcome), strict=True)
    ]
    order = alt.EncodingSortField("test loss", op="mean")
    base = alt.Chart(alt.InlineData(values=points)).encode(alt.Y(f"{kind}:N", sort=order, title=None))
    return alt.layer(
        base.mark_tick(thickness=3, size=18, color="black").encode(alt.X("mean(test loss):Q", title="test loss")),
        base.mark_point(filled=True, size=50).encode(alt.X("test loss:Q", scale=alt.Scale(zero=False)), color="seed:N"),
    ).properties(width=420)
