"""What trained placements say: losses, differences paired by seed, verdicts on claims, and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from experiments.common import interval, paragraph, show

Found = Mapping[str, Any]
"""What the results hold about a placement: among others its `runs`."""


def losses(found: Found) -> list[float]:
    """The test loss of each seed."""
    return [float(run["loss"]) for run in found["runs"]]


def less(found: Found, than: Found) -> list[float]:
    """By how much the test loss is below another placement's, seed by seed."""
    return [other - own for own, other in zip(losses(found), losses(than), strict=True)]


def rates(setting: Found) -> str:
    """The learning rates that were tried, as text."""
    return ", ".join(f"{rate:g}" for rate in setting["rates"])


def verdict(claims: Mapping[str, Sequence[float]]) -> str:
    """One paragraph: which claims failed, which held, which these runs cannot tell.

    A claim has the differences, seed by seed, that are above zero where it is true. It holds or fails where their 95 %
    interval leaves zero out.
    """
    groups: dict[str, list[str]] = {"Did not hold": [], "Held": [], "Could not be told": []}
    for claim, differences in claims.items():
        mean, half = interval(differences)
        certain = not math.isnan(half) and abs(mean) > half
        name = "Could not be told" if not certain else "Held" if mean > 0 else "Did not hold"
        groups[name].append(f"{claim} ({show(differences)})")
    return " ".join(f"**{name}:** {'; '.join(found)}." for name, found in groups.items() if found)


def section(text: str) -> str:
    """The Markdown with its prose in lines of at most 120 characters."""
    blocks = text.strip().split("\n\n")
    return "\n\n".join(block if block[0] in "#|!`" else paragraph(block) for block in blocks) + "\n"


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's ρ of values without ties."""
    ranks = [[sorted(values).index(value) for value in values] for values in (first, second)]
    gaps = sum((one - other) ** 2 for one, other in zip(ranks[0], ranks[1], strict=True))
    return float(1 - 6 * gaps / (len(first) ** 3 - len(first)))


def dots(group: Mapping[str, Found], kind: str) -> Any:
    """Test losses: a point for each seed, a line at their mean; the lowest on top."""
    points = [
        {kind: name.split(" (")[0], "test loss": loss, "seed": str(run["seed"])}
        for name, found in group.items()
        for run, loss in zip(found["runs"], losses(found), strict=True)
    ]
    order = alt.EncodingSortField("test loss", op="mean")
    base = alt.Chart(alt.InlineData(values=points)).encode(alt.Y(f"{kind}:N", sort=order, title=None))
    return alt.layer(
        base.mark_tick(thickness=3, size=18, color="black").encode(alt.X("mean(test loss):Q", title="test loss")),
        base.mark_point(filled=True, size=50).encode(alt.X("test loss:Q", scale=alt.Scale(zero=False)), color="seed:N"),
    ).properties(width=420)
