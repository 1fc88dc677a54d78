"""What the meter read → scores: baselines, what can be averaged, the sample matrix, its means by module and type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from plop_cli import nfn, statistics
from plop_cli.meter import Meter
from plop_cli.modules import LinearModule
from plop_cli.statistics import Array
from plop_cli.texts import Text, text_ids
from plop_registry import ModuleScore, SampleMatrix, Skipped, TypeScore


@dataclass(frozen=True)
class Operator:
    """What a module does besides W z: its bias, (out,) or None, and what a random input comes out with."""

    bias: Tensor | None
    baseline: nfn.Baseline


def operator(module: LinearModule, dtype: torch.dtype, seed: int) -> Operator:
    """Send a zero and the probes through the module; `dtype` is for those whose weight cannot be read."""
    linear, weight = module.module, module.module.weight
    assert isinstance(weight, Tensor)
    readable = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point() and not weight.is_meta
    u = nfn.unit_probes(module.in_features, seed=seed).to(weight.device, weight.dtype if readable else dtype)
    # A zero input comes out as the bias, whatever the class keeps it in.
    bias = linear(torch.zeros_like(u[:1]))[0] if getattr(linear, "bias", None) is not None else None
    outputs = linear(u) if bias is None else linear(u) - bias
    q = nfn.norms(weight.flatten()).item() ** 2 / module.in_features if readable else None
    return Operator(bias, nfn.baseline(outputs, u, q))


def measured(
    modules: Sequence[LinearModule], operators: Sequence[Operator], meter: Meter, texts: Sequence[Text]
) -> tuple[list[int], list[Skipped], SampleMatrix]:
    """What the first `texts` say: the columns of the modules that have a score, the others, and the sample matrix."""
    sums, squares, counts = (array[: len(texts)] for array in meter.read())
    kept, left_out = _fit_to_average(modules, operators, sums, counts, meter.misfits)
    baselines = np.array([operators[column].baseline for column in kept]).reshape(-1, 2)
    matrix = SampleMatrix(
        texts=text_ids(texts),
        sums=(sums[:, kept] / baselines[:, 0]).astype(np.float32),
        squares=(squares[:, kept] / baselines[:, 1]).astype(np.float32),
        counts=counts[:, kept].astype(np.int32),
    )
    return kept, left_out, matrix


def _fit_to_average(
    modules: Sequence[LinearModule], operators: Sequence[Operator], sums: Array, counts: Array, misfits: set[int]
) -> tuple[list[int], list[Skipped]]:
    """The columns that have a score, and the modules that have none, with the reason."""
    kept, left_out = [], []
    for column, module in enumerate(modules):
        reason = None
        if column in misfits:
            reason = "it is not called with one input per token"
        elif not counts[:, column].any():
            reason = "it saw no token"
        elif operators[column].baseline.norm == 0:
            reason = "its weight is zero"
        elif not np.isfinite([*operators[column].baseline, sums[:, column].sum()]).all():
            reason = "its input or output is not finite"
        if reason is None:
            kept.append(column)
        else:
            left_out.append(Skipped(module.name, reason))
    return kept, left_out


def summarize(
    modules: Sequence[LinearModule], matrix: SampleMatrix, *, seed: int
) -> tuple[tuple[TypeScore, ...], tuple[ModuleScore, ...], float]:
    """Module scores (Step 1), type scores (Step 2) with PLoP's choice marked (Step 3), and how sure that set is."""
    sums, squares = matrix.sums.astype(float), matrix.squares.astype(float)
    counts = matrix.counts.astype(float)
    types = [module.type for module in modules]
    means, means_squared = statistics.module_means(sums, counts), statistics.module_means(squares, counts)
    phi = statistics.influence(sums, counts)
    module_scores = tuple(
        ModuleScore(m.name, m.type, m.layer, m.in_features, m.out_features, *values)
        for m, *values in zip(
            modules,
            means.tolist(),
            means_squared.tolist(),
            statistics.standard_error(phi).tolist(),
            matrix.counts.sum(axis=0).tolist(),
            strict=True,
        )
    )
    type_means = statistics.by_type(means, types)
    recommended = statistics.lowest({name: float(value) for name, value in type_means.items()})
    whole, each = statistics.confidence(sums, counts, types, seed=seed)
    squared, errors = statistics.by_type(means_squared, types), statistics.by_type(phi, types)
    type_scores = tuple(
        TypeScore(
            type=name,
            modules=types.count(name),
            nfn=float(type_means[name]),
            nfn_squared=float(squared[name]),
            stderr=float(statistics.standard_error(errors[name][:, None])[0]),
            recommended=name in recommended,
            confidence=each[name],
        )
        for name in sorted(type_means, key=lambda name: (type_means[name], name))
    )
    return type_scores, module_scores, whole
