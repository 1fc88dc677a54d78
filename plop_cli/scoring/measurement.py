"""What the meter read → scores: the sample matrix, and its means by module, type and part."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plop_cli.method import estimates, nfn
from plop_cli.method.choice import Rule, Samples, choose
from plop_cli.method.estimates import Array
from plop_cli.network.modules import LinearModule
from plop_cli.scoring.meter import columns_of_parts
from plop_cli.scoring.probes import Operator
from plop_cli.texts.text import Text, text_ids
from plop_registry import ModuleScore, PartScore, SampleMatrix, Skipped, TypeScore


@dataclass(frozen=True)
class Fit:
    """The columns that have a score; the modules that have none, with the reason; and what to warn of."""

    kept: list[int]
    left_out: list[Skipped]
    warnings: list[str]


@dataclass(frozen=True)
class Measured:
    """Which modules have a score, the sample matrix of those, and the scores of the parts of fused ones."""

    fit: Fit
    matrix: SampleMatrix
    parts: tuple[PartScore, ...]


def measured(
    modules: Sequence[LinearModule],
    operators: Sequence[Operator],
    totals: Array,
    misfits: set[int],
    texts: Sequence[Text],
) -> Measured:
    """What the first `texts` say, of the meter's `totals` and `misfits`."""
    sums, squares, counts = totals[:, : len(texts)]
    fit = fit_to_average(modules, operators, sums, counts, misfits)
    kept = fit.kept
    baselines = np.array([operators[column].baseline for column in kept]).reshape(-1, 2)
    matrix = SampleMatrix(
        texts=text_ids(texts),
        sums=(sums[:, kept] / baselines[:, 0]).astype(np.float32),
        squares=(squares[:, kept] / baselines[:, 1]).astype(np.float32),
        counts=counts[:, kept].astype(np.int32),
    )
    return Measured(fit, matrix, _part_scores(modules, operators, kept, sums, squares, counts))


def _part_scores(
    modules: Sequence[LinearModule],
    operators: Sequence[Operator],
    kept: Sequence[int],
    sums: Array,
    squares: Array,
    counts: Array,
) -> tuple[PartScore, ...]:
    """The mean over the modules of each type, for each of its parts."""
    columns_of = columns_of_parts(modules)
    of_part = defaultdict[tuple[str, str], list[tuple[int, nfn.Baseline]]](list)
    for column in kept:
        for part, baseline, at in zip(modules[column].parts, operators[column].parts, columns_of[column], strict=True):
            if baseline.norm > 0:
                of_part[modules[column].type, part.name].append((at, baseline))
    scores = []
    for (kind, name), entries in of_part.items():
        columns = [at for at, _ in entries]
        plain, squared = np.array([baseline for _, baseline in entries]).T
        n, S, S_squared = counts[:, columns], sums[:, columns] / plain, squares[:, columns] / squared
        mean, mean_squared = (float(estimates.module_means(total, n).mean()) for total in (S, S_squared))
        phi = estimates.by_type(estimates.influence(S, n), [kind] * len(entries))[kind]
        error = float(estimates.standard_error(phi[:, None])[0])
        scores.append(PartScore(kind, name, len(entries), mean, mean_squared, error))
    return tuple(scores)


def summarize(
    modules: Sequence[LinearModule], matrix: SampleMatrix, *, exclude: Collection[str] = (), seed: int
) -> tuple[tuple[TypeScore, ...], tuple[ModuleScore, ...], float]:
    """Module scores (Step 1), type scores (Step 2) with PLoP's choice marked (Step 3), and how sure that set is.

    `exclude` are types that are scored and not chosen.
    """
    sums, squares = matrix.sums.astype(float), matrix.squares.astype(float)
    counts = matrix.counts.astype(float)
    types = [module.type for module in modules]
    means, means_squared = estimates.module_means(sums, counts), estimates.module_means(squares, counts)
    phi = estimates.influence(sums, counts)
    module_scores = tuple(
        ModuleScore(m.name, m.type, m.layer, m.in_features, m.out_features, *values)
        for m, *values in zip(
            modules,
            means.tolist(),
            means_squared.tolist(),
            estimates.standard_error(phi).tolist(),
            matrix.counts.sum(axis=0).tolist(),
            strict=True,
        )
    )
    type_means = estimates.by_type(means, types)
    choice = choose([Samples(sums, counts, types)], Rule(exclude=frozenset(exclude)), seed=seed)
    squared, errors = estimates.by_type(means_squared, types), estimates.by_type(phi, types)
    type_scores = tuple(
        TypeScore(
            type=name,
            modules=types.count(name),
            nfn=float(type_means[name]),
            nfn_squared=float(squared[name]),
            stderr=float(estimates.standard_error(errors[name][:, None])[0]),
            recommended=name in choice.chosen,
            confidence=choice.frequency.get(name, 0.0),
        )
        for name in sorted(type_means, key=lambda name: (type_means[name], name))
    )
    return type_scores, module_scores, choice.confidence


_IDLE = "it is not called with tokens, though its weight may be used"


def fit_to_average(
    modules: Sequence[LinearModule], operators: Sequence[Operator], sums: Array, counts: Array, misfits: set[int]
) -> Fit:
    """Which modules have a score. Experts that saw no token are counted, an entry for each parameter of each layer.

    Modules of one type that are left out for one reason, such as a list of experts, are one warning.
    """
    fit, idle = Fit([], [], []), Counter[str]()
    alike = defaultdict[tuple[str, str], list[str]](list)
    remarks = defaultdict[tuple[str, str], list[str]](list)
    for column, (module, operator) in enumerate(zip(modules, operators, strict=True)):
        reason = _against(operator, misfit=column in misfits, sums=sums[:, column], counts=counts[:, column])
        if reason is None:
            fit.kept.append(column)
            for what, remark in _remarks(module, operator):
                remarks[module.type, what].append(remark)
        elif reason == _IDLE and module.expert is not None:
            idle[module.place] += 1
        else:
            fit.left_out.append(Skipped(module.name, reason))
            alike[module.type, reason].append(module.name)
    number = Counter(module.type for module in modules)
    for (kind, what), lines in remarks.items():
        fit.warnings.append(lines[0] + (f" ({len(lines)} of {number[kind]} {kind} {what})" if lines[1:] else ""))
    for (kind, reason), names in alike.items():
        line = f"{names[0]} is left out: {reason}"
        fit.warnings.append(line + (f" (so are {len(names)} of {number[kind]} {kind})" if names[1:] else ""))
    of = Counter(module.place for module in modules)
    fit.left_out.extend(Skipped(place, f"{n} of {of[place]} experts saw no token") for place, n in idle.items())
    if idle:
        total = sum(of[place] for place in idle)
        fit.warnings.append(
            f"{idle.total()} of {total} expert weights saw no token and have no score; more texts reach more of them"
        )
    return fit


def _against(operator: Operator, *, misfit: bool, sums: Array, counts: Array) -> str | None:
    """Why a module has no score; None where it has one."""
    if operator.against:
        return operator.against
    if misfit:
        return "it is not called with one input per token"
    if not counts.any():
        return _IDLE
    if operator.baseline.norm == 0:
        return "its weight is zero"
    if not np.isfinite([*operator.baseline, sums.sum()]).all():
        return "its input or output is not finite"
    return None


def _remarks(module: LinearModule, operator: Operator) -> Iterator[tuple[str, str]]:
    """What to know of a module that has a score: in words that fit several modules, and in full."""
    if operator.rank is not None:
        full = min(module.in_features, module.out_features)
        yield "are of low rank", f"{module.name} has rank {operator.rank}, and its shape allows {full}"
    if operator.error:
        rest = f"its scores rest on {nfn.PROBES} probes alone and err by {operator.error:.1%}"
        yield "are so", f"{module.name} does not show its weight: {rest}"
