"""Where others would put adapters, without data: by the singular values σ₁ ≥ … ≥ σₘ of the weights alone.

    condition_number(model)                    # {"q_proj": 187.2, ...}
    CHOICES["condition number"](model)[:3]     # the types to adapt, first choice first

A type's value is the mean over its modules. The model is in memory, in floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from plop_cli.network.modules import linear_modules

Measure = Callable[[Tensor, float], float]
"""Of the singular values of a module, largest first, and its β: the smaller of in/out and out/in."""

_spectra: WeakKeyDictionary[nn.Module, dict[str, list[tuple[Tensor, float]]]] = WeakKeyDictionary()


def stable_rank(model: nn.Module) -> dict[str, float]:
    """‖W‖_F² / σ₁²: over how many directions the weight is spread."""
    return _mean(model, lambda S, beta: (S.square().sum() / S[0].square()).item())


def condition_number(model: nn.Module) -> dict[str, float]:
    """σ₁ / σₘ, as PEFT's `find_kappa_target_modules` (KappaTune) has it; as a geometric mean, its range being wide."""
    logs = _mean(model, lambda S, beta: math.log(S[0].item() / (S[-1].item() + 1e-8)))
    return {name: math.exp(value) for name, value in logs.items()}


def spectrum_snr(model: nn.Module) -> dict[str, float]:
    """Spectrum's signal-to-noise ratio (Hartford et al., arXiv 2406.06623): Σ signal / Σ noise / σ₁.

    Signal is what lies above ε, noise the rest; ε = (1 + √β) s, the edge of a random matrix's spectrum (Marchenko and
    Pastur), with s the interquartile range of σ over 1.349.
    """

    def snr(S: Tensor, beta: float) -> float:
        low, high = torch.quantile(S, torch.tensor([0.25, 0.75])).tolist()
        signal = (1 + math.sqrt(beta)) * (high - low) / 1.349 < S
        return (S[signal].sum() / S[~signal].sum() / S[0]).item()

    return _mean(model, snr)


def _mean(model: nn.Module, measure: Measure) -> dict[str, float]:
    if model not in _spectra:
        spectra: dict[str, list[tuple[Tensor, float]]] = {}
        for module in linear_modules(model)[0]:
            sizes = sorted((module.in_features, module.out_features))
            weight = module.module.get_parameter("weight").detach().float()
            spectra.setdefault(module.type, []).append((torch.linalg.svdvals(weight).cpu(), sizes[0] / sizes[1]))
        _spectra[model] = spectra
    return {name: fmean(measure(*spectrum) for spectrum in spectra) for name, spectra in _spectra[model].items()}


def _ranked(values: dict[str, float]) -> list[str]:
    return sorted(values, key=values.__getitem__)


CHOICES: dict[str, Callable[[nn.Module], list[str]]] = {
    "condition number": lambda model: _ranked(condition_number(model)),
    "stable rank": lambda model: _ranked(stable_rank(model))[::-1],
    "Spectrum's SNR": lambda model: _ranked(spectrum_snr(model))[::-1],
}
"""Types in the order in which each would adapt them: lowest κ first, as KappaTune does; highest SNR first, as Spectrum
does; and highest stable rank first, which like a low κ means a flat spectrum."""
