"""How few texts tell nothing of how sure a choice is. What prints it needs this and no NumPy."""

from __future__ import annotations

import math

LEAST_SAMPLES = 8
"""From fewer, nothing is said: the bootstrap cannot know what it has not seen.

Of two types with one NFN, each sample draws the sign of their difference. When all n samples draw the same, every
resample agrees with them and the bootstrap says 100 %, which happens by chance with probability 2 · 2⁻ⁿ. For the risk
of 1 % that a decision takes by default (`--confidence 0.99`), n ≥ 1 + log₂ 100 = 7.6. By simulation a tie is called
100 % sure in half of all draws of 2 texts, and in 3 % of those of 8 (`tests/method/test_choice.py`).
"""


def told(confidence: float | None, samples: int) -> float | None:
    """The confidence that so many samples can have in a choice; None where they are too few to say."""
    known = confidence is not None and not math.isnan(confidence) and samples >= LEAST_SAMPLES
    return confidence if known else None
