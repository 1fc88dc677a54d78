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


def beside(*runs: Sequence[Opinion], count: int | None = None, exclude: Collection[str] = ()) -> list[Said]:
    """What every method says of one model, compared to what NFN says where that is among them.

    Args: `runs`, the opinions of each run of the model, on one task each; what is said of all of them counts. `count`
    types are chosen by each method (default: as many as PLoP takes); those to `exclude` are out of the question, as are
    those without NFN where others have one: what no token runs through is nothing to adapt.
    """
    known = [{each.method: each for each in run} for run in runs]
    common = {key: [own[key] for own in known] for key in METHODS if all(key in own for own in known)}
    every = {module.type for own in common.values() for each in own for module in each.values} - {""}
    nfn = [{module.type for module in each.values} for each in common.get("nfn", ())]
    types = every.intersection(*nfn) - {*exclude}
    count = default_count(len(types)) if count is None else count
    orders = {key: ordering(*own, count=count, exclude=every - types) for key, own in common.items()}
    plop = orders.get("nfn")
    return [
        Said(mean_of(own), orders[key], agreement(orders[key], plop) if plop and key != "nfn" else None)
        for key, own in common.items()
    ]


def mean_of(opinions: Sequence[Opinion]) -> Opinion:
    """What one method says of several runs of a model: the mean for each module that has a value in all of them.

    What looks at weights was computed once for all of them, and took as long.
    """
    first, *others = opinions
    values = [{module.name: module.value for module in each.values} for each in opinions]
    common = [module for module in first.values if all(module.name in each for each in values)]
    means = [ModuleValue(name, kind, fmean(each[name] for each in values)) for name, kind, _ in common]
    left_out = {skipped.name: skipped for each in reversed((first, *others)) for skipped in each.left_out}
    seconds = (max if first.looks_at == "weights" else sum)(each.seconds for each in opinions)
    return METHODS[first.method].opinion(means, left_out.values(), seconds=seconds, settings=first.settings)
