"""What a race found, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from plop_cli.racing.verdicts import BETTER, SAME, WORSE, Gap, Standing, baseline_of, best, stand, winner
from plop_cli.words import counted, listed
from plop_registry import Race


def plus_minus(gap: Gap, *, sign: bool = False) -> str:
    """A mean with its 95 % interval: "1.007 ± 0.004"; with the sign of a difference: "−0.012 ± 0.004"."""
    if math.isnan(gap.mean):
        return "–"
    mean = f"{gap.mean:+.3f}" if sign else f"{gap.mean:.3f}"
    return mean.replace("-", "−") + ("" if math.isnan(gap.half) else f" ± {gap.half:.3f}")


def answer(race: Race) -> str:
    """The one sentence."""
    leading, chosen = best(race), winner(race)
    if chosen is None:
        return "No contestant has finished a lap, so nothing can be said."
    others = [each for each in leading if each is not leading[0]]
    first = leading[0].entry.name
    if not others:
        return f"{first} trains best: its test loss is {plus_minus(leading[0].loss)}, and all others are behind it."
    names = listed([each.entry.name for each in leading])
    behind = [each.entry.name for each in stand(race) if each.seeds and each not in leading]
    beaten = f"; {listed(behind)} {'is' if len(behind) == 1 else 'are'} behind" if behind else ""
    told = "train the same" if len({each.entry.adapters for each in leading}) == 1 else "cannot be told apart"
    return f"{names} {told}{beaten}. The smallest of them is {chosen.entry.name}."


def notes(race: Race) -> Iterator[str]:
    """What to mind about the table."""
    standings = stand(race)
    base = baseline_of(race).name
    seeds = max((len(each.seeds) for each in standings), default=0)
    if seeds == 1:
        yield "one seed tells no spread, so nothing can be decided; give --seeds 2 or more"
    for each in standings:
        if each.diverged:
            yield f"{each.entry.name}: {counted(each.diverged, 'lap')} diverged, and no mean has them in it"
        elif each.seeds and len(each.seeds) < seeds:
            yield f"{each.entry.name} dropped out after {counted(len(each.seeds), 'seed')}"
        elif not each.seeds:
            yield f"{each.entry.name} has no finished lap"
    sizes = [each.entry.parameters for each in standings]
    yield f"parameters are within {max(sizes) / min(sizes) - 1:.1%} of each other"
    yield (
        f"differences are from {base}, in nats per token, with 95 % intervals over seeds and test examples; "
        f"{BETTER} and {WORSE} hold with at most 5 % risk of even one error (Holm)"
    )


def verdict(standing: Standing) -> str:
    """The verdict as the table has it."""
    return "the same adapters" if standing.verdict == SAME else standing.verdict
