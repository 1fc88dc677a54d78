"""What can change a digit of a score, besides the weights and the texts. Needs no torch: keys are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ENGINE = 1
"""Version of the arithmetic. A change that moves a score beyond rounding raises it, and older runs are no hits."""


def settings(
    *,
    samples: int,
    max_length: int,
    seed: int,
    dtype: str,
    chat: bool,
    quantization: str | None = None,
    adapter: str | None = None,
    include: Sequence[str] = (),
    on: str = "all",
    skipped: bool = False,
) -> dict[str, Any]:
    """A run's settings, as stored and as part of its key. `adapter` is the start of a hash of its files.

    `on` tells which tokens were scored, `skipped` that texts which were refused were passed over; runs where neither is
    the case have neither setting, so that those of before are found.

    Not among them: batch size, device, where weights lie and number of processes: they move a score by rounding only.
    """
    return {
        "samples": samples,
        "max_length": max_length,
        "seed": seed,
        "dtype": dtype,
        "quantization": quantization,
        "chat": chat,
        "adapter": adapter,
        "engine": ENGINE,
        **({"include": sorted(include)} if include else {}),
        **({"on": on} if on != "all" else {}),
        **({"skip_bad": True} if skipped else {}),
    }
