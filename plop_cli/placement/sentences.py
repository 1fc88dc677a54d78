"""A placement in words: where, how sure, what is in doubt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from plop_cli.placement.placement import Placement
from plop_cli.placement.refused import REASON
from plop_cli.words import listed


def sentences(placement: Placement) -> Iterator[str]:
    """The recommendation in words: where, how sure, what is in doubt, where the tasks disagree."""
    choice = placement.choice
    where = listed(choice.chosen) if of_types(placement) else f"{len(choice.chosen)} single modules"
    sure = "" if math.isnan(choice.confidence) else f" (the same set in {choice.confidence:.1%} of resamples)"
    yield f"LoRA goes into {where}{sure}."
    if choice.close:
        wanted = choice.samples_wanted
        remedy = (
            "no number of texts is likely to settle it, so either will do"
            if wanted is None
            else f"about {_round(wanted):,} more texts per task would likely settle it (--samples)"
        )
        yield f"Too close to call: {listed(choice.close)}; {remedy}."
    picks = {task: listed(alone.chosen) for task, alone in placement.by_task.items()}
    if len(set(picks.values())) > 1 and of_types(placement):
        yield "The tasks disagree: " + "; ".join(f"{task} alone takes {types}" for task, types in picks.items()) + "."
    elif picks and of_types(placement):
        yield "Each task alone takes the same."
    for kind, nfn in placement.left_out.items():
        yield f"{kind}{'' if math.isnan(nfn) else f' (NFN {nfn:.3f})'} is left out of the choice: {REASON}."
    counts = Counter(sorted({module.place: module.type for module in placement.modules}.values()))
    yield (
        f"{counts.total()} modules ({listed([f'{count} {type}' for type, count in counts.items()])}), "
        f"{placement.trainable_parameters:,} trainable parameters at rank {placement.rank}, alpha {placement.alpha}"
        f"{', rank-stabilised' if placement.rslora else ''}."
    )


def of_types(placement: Placement) -> bool:
    """Whether whole types were chosen, not single modules."""
    return set(placement.choice.chosen) <= {module.type for module in placement.modules}


def _round(number: int) -> int:
    """To two digits: it is an estimate."""
    return int(float(f"{number:.1e}"))
