"""The arithmetic of Normalized Feature Norms: no hooks, no I/O. Symbols as in the paper (Definition 1):

W   a module's weight, out × in, as a black-box linear operator: its output without its bias
z   the input of one token, in R^in
u   a vector drawn uniformly from the unit sphere of R^in
r   ‖W u‖;  q = ‖W‖_F² / in, which is E r² exactly

NFN(W, z) = ‖W z‖ / ‖W z̃‖ with z̃ = ‖z‖ u, so NFN(W, D) = mean_t(‖W z_t‖ / ‖z_t‖) / E r: the baseline E r is one number
per module. The squared form of Step 1 is mean_t(‖W z_t‖² / ‖z_t‖²) / E r².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

PROBES = 64
PROBE_SEED = 0x504C6F50


class Baseline(NamedTuple):
    """E ‖W u‖ and E ‖W u‖², what a random input of norm 1 comes out with."""

    norm: float
    squared: float


def unit_probes(in_features: int, *, seed: int, count: int = PROBES) -> Tensor:
    """`count` vectors uniform on the unit sphere, (count, in) float32 on the CPU; the same for the same seed."""
    # Not the seed itself: after torch.manual_seed(seed) a model's first weight may have been drawn from it.
    generator = torch.Generator().manual_seed(seed + PROBE_SEED)
    gaussian: Tensor = torch.randn(count, in_features, generator=generator)
    return gaussian / norms(gaussian)[:, None]


def norms(vectors: Tensor, dim: int | None = -1) -> Tensor:
    """‖·‖ over the last dimension, or over all (None), in float32 whatever the dtype: (..., features) → (...)."""
    vectors = vectors.float() if vectors.dtype == torch.float64 else vectors  # which torch does not narrow by itself
    return cast(Tensor, torch.linalg.vector_norm(vectors, dim=dim, dtype=torch.float32))


def baseline(Wu: Tensor, u: Tensor, q: float) -> Baseline:
    """E ‖W u‖ and E ‖W u‖² from probes that went through the module.

    Args: `Wu` (probes, out), without bias; `u` (probes, in), in the module's dtype (rounding there moves its norm off
    1, so it is divided out); `q` = ‖W‖_F²/in.
    """
    return expectations(amplification(Wu, norms(u))[None], [q])[0]


def expectations(r: Tensor, q: Sequence[float]) -> list[Baseline]:
    """E r and E r² of several modules, from r (modules, probes) and the q of each.

    E r² = q needs no sampling, and r² serves as control variate for r, whose slope on r² near √q is
    1/(2√q): E r ≈ mean(r) − (mean(r²) − q) / (2√q). 64 probes then err by about 0.05 % instead of 1 %.
    """
    r = r.cpu().double()  # MPS has no float64
    means = zip(r.mean(dim=1).tolist(), r.square().mean(dim=1).tolist(), q, strict=True)
    return [
        Baseline(mean - (mean_squared - q) / (2 * math.sqrt(q)), q) if q else Baseline(0.0, 0.0)
        for mean, mean_squared, q in means
    ]


def span(Wu: Tensor) -> int:
    """How many dimensions the outputs of some probes (probes, out) span: the rank of W, where there are more probes.

    In float32 what should be zero comes out as less than 1e-6 of the largest singular value. Those are for matrices
    that may lack rank: of the others Cholesky's factor of a Gram matrix, in a tenth of the time, shows how far each
    output is from the span of those before it. Outputs that are independent in some coordinates are so in all.
    """
    some = Wu[:, : 4 * len(Wu)]
    gram = (some @ some.mT).cpu()  # which has all of linear algebra, as MPS has not
    factor, failed = torch.linalg.cholesky_ex(gram)
    apart, squares = factor.diagonal().tolist(), gram.diagonal().tolist()
    if apart and not failed and min(apart) > 0.05 * math.sqrt(max(squares)):
        return len(Wu)
    values = torch.linalg.svdvals(Wu.cpu().nan_to_num(0.0, 0.0, 0.0))
    return int((values > 1e-5 * values.max()).sum()) if len(values) else 0


def amplification(Wz: Tensor, z_norms: Tensor) -> Tensor:
    """‖W z‖ / ‖z‖ of every token: outputs (..., out) and input norms (...) → (...), float32, where the latter are."""
    return norms(Wz).to(z_norms.device) / z_norms
