"""Whether a stored run still says what was stored: its parts against each other, and all of it against its id."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from plop_registry.damage import UNREADABLE
from plop_registry.errors import RegistryError
from plop_registry.matrix import SampleMatrix
from plop_registry.queries import BATCH, Reader, Stored
from plop_registry.runs import ModuleScore, Run, id_of

TOLERANCE = 1e-5  # relative; the matrix is float32, the scores are not


def problems_of(reader: Reader) -> Iterator[str]:
    """What is wrong with each run, newest first, whatever state it is in: a line for each problem."""
    offset = 0
    while batch := reader.stored(limit=BATCH, offset=offset, modules=True):
        offset += len(batch)
        matrices = reader.packed([each.run.id for each in batch if isinstance(each, Stored)])
        for each in batch:
            if isinstance(each, str):
                yield f"run {each}: it cannot be read"
                continue
            try:
                found = [*problems(each.run, matrices.get(each.run.id))]
                if replace(each, matrix=None).sound is False:
                    found.append("its row or its types do not match their seal")
            except UNREADABLE as error:
                found = [f"its values are none ({error})"]
            yield from (f"run {each.run.id}: {problem}" for problem in found)


def problems(run: Run, stored: tuple[str, bytes] | None) -> Iterator[str]:
    """What is wrong with a run that was loaded with its modules, given its matrix's hash and bytes.

    ArithmeticError, TypeError or ValueError where its values are not even of their types.
    """
    by_type = defaultdict[str, list[ModuleScore]](list)
    for module in run.modules:
        by_type[module.type].append(module)
    if sorted(by_type) != sorted(score.type for score in run.types):
        yield "its types are not those of its modules"
        return
    for score in run.types:
        modules = by_type[score.type]
        if score.modules != len(modules):
            yield f"{score.type} says {score.modules} modules and has {len(modules)}"
        for name in ("nfn", "nfn_squared"):
            known = [value for module in modules if not math.isnan(value := getattr(module, name))]
            if not _close(getattr(score, name), math.fsum(known) / len(known) if known else math.nan):
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


def _close(one: float, other: float) -> bool:
    finite = math.isfinite(one) and math.isfinite(other)
    return math.isclose(one, other, rel_tol=TOLERANCE) if finite else math.isfinite(one) == math.isfinite(other)
