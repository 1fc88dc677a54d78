"""Whether a stored run still says what was stored: its parts against each other, and all of it against its id."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from plop_registry.errors import RegistryError
from plop_registry.matrix import SampleMatrix
from plop_registry.runs import Run, id_of

TOLERANCE = 1e-5  # relative; the matrix is float32, the scores are not


def problems(run: Run, stored: tuple[str, bytes] | None) -> Iterator[str]:
    """What is wrong with a run that was loaded with its modules, given its matrix's hash and bytes."""
    by_type = {name: [module for module in run.modules if module.type == name] for name in _types(run)}
    if list(by_type) != sorted(score.type for score in run.types):
        yield "its types are not those of its modules"
        return
    for score in run.types:
        modules = by_type[score.type]
        if score.modules != len(modules):
            yield f"{score.type} says {score.modules} modules and has {len(modules)}"
        for name in ("nfn", "nfn_squared"):
            if not _close(getattr(score, name), math.fsum(getattr(m, name) for m in modules) / len(modules)):
                yield f"{name} of {score.type} is not the mean of its modules"

    if stored is None:
        yield "its sample matrix is missing"
        return
    sha256, packed = stored
    try:
        matrix = SampleMatrix.unpack(packed)
    except RegistryError as error:
        yield str(error)
        return
    if matrix.sha256() != sha256:
        yield "the sample matrix is damaged (its hash has changed)"
    if run.id != id_of(run.content(), sha256):
        yield "its content does not match its id"
    if matrix.sums.shape != (run.samples, len(run.modules)):
        yield f"it has {run.samples} samples and {len(run.modules)} modules, its matrix {matrix.sums.shape}"
        return
    tokens = matrix.counts.sum(axis=0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        nfn = matrix.sums.sum(axis=0, dtype=np.float64) / tokens
        squared = matrix.squares.sum(axis=0, dtype=np.float64) / tokens
    for column, module in enumerate(run.modules):
        if module.tokens != tokens[column]:
            yield f"{module.name} says {module.tokens} tokens, its matrix {tokens[column]}"
        if not _close(module.nfn, nfn[column]) or not _close(module.nfn_squared, squared[column]):
            yield f"{module.name} does not agree with its matrix"


def _types(run: Run) -> list[str]:
    return sorted({module.type for module in run.modules})


def _close(one: float, other: float) -> bool:
    finite = math.isfinite(one) and math.isfinite(other)
    return math.isclose(one, other, rel_tol=TOLERANCE) if finite else math.isfinite(one) == math.isfinite(other)
