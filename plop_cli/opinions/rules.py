"""Which modules a method adapts by its own rule, where it has one: it chooses modules or layers, not types."""

from __future__ import annotations

from collections.abc import Collection

from plop_registry import ModuleValue, Opinion

KAPPA_SHARE = 0.2
"""Of all modules: `top_p` of PEFT's `find_kappa_target_modules`."""
SPECTRUM_SHARE = 0.5
"""Of the layers of each type: `top_percent` of Spectrum's program."""


def own_choice(
    opinion: Opinion, *, share: float | None = None, among: Collection[str] | None = None
) -> list[str] | None:
    """The modules by name, first choice first; None for a method that has no such rule.

    Args: `share`, how many of the modules, or of the layers of each type (default: what the method's program takes);
    `among`, the types that may be adapted (default: all).
    """
    adaptable = [module for module in opinion.values if among is None or module.type in among]
    ranked = sorted(adaptable, key=lambda module: module.value if opinion.lowest else -module.value)
    if opinion.method == "kappa":
        return [module.name for module in ranked[: max(1, int(len(ranked) * (share or KAPPA_SHARE)))]]
    if opinion.method != "snr":
        return None
    of_types: dict[str, list[ModuleValue]] = {}
    for module in ranked:
        of_types.setdefault(module.type, []).append(module)
    return [
        module.name
        for modules in of_types.values()
        for module in modules[: int(len(modules) * (share or SPECTRUM_SHARE))]
    ]
