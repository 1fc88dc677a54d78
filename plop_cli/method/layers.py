"""The modules of a run by layer and type: what the NFN-map shows (paper, Figures 4 and 8 to 12)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from plop_registry import ModuleScore


def layer_means(modules: Iterable[ModuleScore]) -> dict[tuple[int | None, str], float]:
    """The mean over the modules that share layer and type; those without a score count as absent."""
    values: dict[tuple[int | None, str], list[float]] = {}
    for module in modules:
        if math.isfinite(module.nfn):
            values.setdefault((module.layer, module.type), []).append(module.nfn)
    return {key: math.fsum(group) / len(group) for key, group in values.items()}
