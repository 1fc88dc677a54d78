"""Scores whose truth the test chooses: a sample's NFN is its type's true NFN times noise, as hard texts have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plop_cli.method.estimates import module_means
from plop_registry import ModuleScore, SampleMatrix, Skipped

LLAMA_ON_MATH = {
    "q_proj": 2.58,
    "k_proj": 2.63,
    "v_proj": 0.97,
    "o_proj": 0.90,
    "gate_proj": 1.40,
    "down_proj": 1.05,
    "up_proj": 1.11,
}
"""What the released code finds for Llama-3.2-1B-Instruct on GSM8K."""


@dataclass(frozen=True)
class SyntheticScores:
    """As `recommend` takes scores."""

    modules: tuple[ModuleScore, ...]
    matrix: SampleMatrix
    task: str = "synthetic"
    skipped: tuple[Skipped, ...] = ()

    @property
    def model(self) -> dict[str, str]:
        return {"id": "org/synthetic", "architecture": "LlamaForCausalLM"}

    @property
    def settings(self) -> dict[str, Any]:
        return {"seed": 0}

    def first(self, samples: int) -> SyntheticScores:
        """The scores of the first texts alone."""
        arrays = (getattr(self.matrix, name)[:samples] for name in ("texts", "sums", "squares", "counts"))
        return SyntheticScores(self.modules, SampleMatrix(*arrays), self.task)


def synthetic(
    nfn: dict[str, float], *, samples: int = 64, noise: float = 0.02, layers: int = 2, seed: int = 0, **fields: Any
) -> SyntheticScores:
    """Scores of a model with `layers` blocks: each type with its NFN, and independent `noise` of each sample."""
    rng = np.random.default_rng(seed)
    counts = np.repeat(rng.integers(30, 120, size=(samples, 1)), layers * len(nfn), axis=1)
    of_samples = np.array(list(nfn.values())) * (1 + noise * rng.standard_normal((samples, len(nfn))))
    sums = np.tile(of_samples, layers) * counts
    places = [
        (f"model.layers.{layer}.{'mlp' if 'up' in t or 'down' in t or 'gate' in t else 'self_attn'}.{t}", t, layer)
        for layer in range(layers)
        for t in nfn
    ]
    means = module_means(sums, counts.astype(float))
    modules = tuple(
        ModuleScore(*place, 64, 32, float(mean), float(mean) ** 2) for place, mean in zip(places, means, strict=True)
    )
    texts = rng.integers(2**64, size=samples, dtype=np.uint64)
    return SyntheticScores(modules, SampleMatrix(texts, sums, sums, counts), **fields)


def sampled(means: list[float], *, samples: int = 50, spread: float = 0.1, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Sums and counts (samples, modules) whose NFN is about `means`; a sample of n tokens has one factor of its own."""
    rng = np.random.default_rng(seed)
    counts = np.repeat(rng.integers(5, 80, size=(samples, 1)), len(means), axis=1).astype(float)
    return counts * means * (1 + spread * rng.standard_normal((samples, len(means)))), counts
