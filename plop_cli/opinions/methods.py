"""The methods that have an opinion: what each looks at, which end of its scale it adapts, and who defines it.

METHODS["kappa"].opinion(values, seconds=1.2)         # an `Opinion`, as the registry keeps it

Needs no torch: what is stored is shown by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from plop_registry import ModuleValue, Opinion, Skipped


@dataclass(frozen=True)
class Method:
    """`name` is for people. It adapts the lowest values where `lowest`; a type's value is the mean over its modules,
    the `geometric` one where a few modules would outweigh all others. `version` is that of the arithmetic here.
    """

    key: str
    name: str
    looks_at: Literal["weights", "activations"]
    lowest: bool
    source: str
    geometric: bool = False
    version: int = 1

    def opinion(
        self,
        values: Iterable[ModuleValue],
        left_out: Iterable[Skipped] = (),
        *,
        seconds: float,
        settings: Mapping[str, Any] | None = None,
    ) -> Opinion:
        """What this method says, as it is stored. ValueError where a value is not finite."""
        return Opinion(
            method=self.key,
            version=self.version,
            looks_at=self.looks_at,
            lowest=self.lowest,
            values=tuple(values),
            left_out=tuple(left_out),
            settings=dict(settings or {}),
            seconds=seconds,
        )

    def current(self, opinion: Opinion | None) -> bool:
        """Whether a stored opinion is what this method would say today."""
        return opinion is not None and opinion.version == self.version


METHODS = {
    method.key: method
    for method in (
        Method("nfn", "NFN", "activations", True, "PLoP, arXiv 2506.20629"),
        Method("nfn-squared", "NFN, squared", "activations", True, "PLoP, arXiv 2506.20629"),
        Method(
            "kappa", "condition number κ", "weights", True, "KappaTune, arXiv 2506.16289", geometric=True, version=2
        ),
        Method("snr", "Spectrum's SNR", "weights", False, "Spectrum, arXiv 2406.06623", version=3),
        Method("stable-rank", "stable rank", "weights", False, "Rudelson and Vershynin 2007"),
        Method("effective-rank", "effective rank", "weights", False, "Roy and Vetterli 2007"),
        Method("alpha", "heavy tail α", "weights", False, "WeightWatcher, arXiv 2002.06716", version=3),
        Method("hill", "heavy tail α, Hill", "weights", False, "AlphaLoRA, arXiv 2410.10054", version=3),
        Method("eva", "explained variance", "activations", False, "EVA, arXiv 2410.07170", version=3),
        Method("influence", "block influence", "activations", False, "ShortGPT, arXiv 2403.03853"),
    )
}
"""Every method by its key, in the order in which they are shown."""

OF_WEIGHTS = tuple(key for key, method in METHODS.items() if method.looks_at == "weights")
"""Those that need no texts."""

OF_ACTIVATIONS = ("eva", "influence")
"""Those that are taken in the pass of NFN where somebody asks for them, and kept with its run."""

ADAPTED = "second opinions are of the weights that adapters are put on; give the base model, without an adapter"
"""Why there are none of a model with adapters."""
