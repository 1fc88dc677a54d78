"""Second opinions, each beside PLoP's own choice.

    plop, *others = beside([nfn, kappa, snr])
    others[0].with_plop.shared              # ("v_proj", "up_proj"): types that both would adapt

Needs no torch: tables and reports are made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean
from typing import NamedTuple

from plop_cli.method.estimates import default_count
from plop_cli.opinions.methods import METHODS
from plop_cli.opinions.ordering import Agreement, Ordering, agreement, ordering
from plop_registry import ModuleValue, Opinion


class Said(NamedTuple):
    """An opinion, the order of types that it comes to, and how far that goes with PLoP's, where there is one."""

    opinion: Opinion
    order: Ordering
    with_plop: Agreement | None

    @property
    def shared(self) -> str:
        """How many of the types that it chooses PLoP chooses too, in words."""
        if self.with_plop is None:
            return ""
        return f"{len(self.with_plop.shared)} of {len(self.order.chosen)}" if self.order.chosen else "–"

    @property
    def tau(self) -> str:
        """Kendall's τ with PLoP's order, in words."""
        if self.with_plop is None:
            return ""
        return "–" if self.with_plop.tau is None else f"{self.with_plop.tau:+.2f}".replace("-", "−")


def beside(opinions: Sequence[Opinion], *, count: int | None = None, exclude: Collection[str] = ()) -> list[Said]:
    """Each opinion of one model, compared to that of NFN if it is among them.

    Args: `count` types are chosen by each (default: as many as PLoP takes of those that some method has a value for);
    those to `exclude` are out of the question.
    """
    if count is None:
        count = default_count(len({each.type for opinion in opinions for each in opinion.values} - {"", *exclude}))
    orders = {each.method: ordering(each, count=count, exclude=exclude) for each in opinions}
    plop = orders.get("nfn")
    return [
        Said(each, orders[each.method], agreement(orders[each.method], plop) if plop and each.method != "nfn" else None)
        for each in opinions
    ]


def mean_of(opinions: Sequence[Opinion]) -> Opinion:
    """What one method says of several runs of a model: the mean for each module that has a value in all of them."""
    first, *others = opinions
    values = [{module.name: module.value for module in each.values} for each in opinions]
    common = [module for module in first.values if all(module.name in each for each in values)]
    means = [ModuleValue(name, kind, fmean(each[name] for each in values)) for name, kind, _ in common]
    left_out = {skipped.name: skipped for each in reversed((first, *others)) for skipped in each.left_out}
    seconds = sum(each.seconds for each in opinions)
    return METHODS[first.method].opinion(means, left_out.values(), seconds=seconds, settings=first.settings)
