"""The learning rate of a contestant: successive halving over a grid, widened where the best is at its edge."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Sequence

from plop_cli.errors import PlopError

RATES = "1e-4..2e-3"
"""As wide as LoRA's learning rates usually are."""

WIDER = 4
"""By how many rates at most a grid is widened."""

Wave = list[tuple[float, int]]
"""Trainings that do not wait for each other: a learning rate and a number of steps each."""


def grid(text: str) -> tuple[float, ...]:
    """1e-4..2e-3 → rates in between, each about twice the one before; 1e-4,5e-4 → these; 1e-4 → this alone.

    Raises PlopError for anything else.
    """
    try:
        ends = re.fullmatch(r"(.+?)\.\.(.+)", text)
        rates = sorted({float(part) for part in (ends.groups() if ends else text.split(","))})
    except ValueError:
        raise PlopError(f"--rates {text!r} are no learning rates; write 1e-4..2e-3, or 1e-4,5e-4") from None
    if not all(0 < rate < 10 for rate in rates):
        raise PlopError(f"--rates {text!r} are no learning rates; give such between 0 and 10")
    if not ends or len(rates) == 1:
        return tuple(rates)
    low, high = rates
    count = max(2, round(math.log2(high / low)) + 1)
    return tuple(_rounded(low * (high / low) ** (index / (count - 1))) for index in range(count))


def tune(rates: Sequence[float], steps: int) -> Generator[Wave, list[float], None]:
    """Yield waves of trainings, and be sent their validation losses in the same order (infinite where one diverged).

    All rates train for a part of `steps`, the better half for twice as long, until one is left, which trains for all of
    them. Where that is the lowest or the highest rate so far, the next beyond it is tried too, up to WIDER times.
    """
    left, tried, whole = sorted(rates), sorted(rates), dict[float, float]()
    while len(left) > 1:
        part = max(1, steps // 2 ** math.floor(math.log2(len(left))))
        losses = yield [(rate, part) for rate in left]
        ranked = sorted(zip(losses, left, strict=True))
        left = sorted(rate for _, rate in ranked[: len(left) // 2])
    whole[left[0]] = (yield [(left[0], steps)])[0]
    if len(tried) == 1:
        return
    ratio = (tried[-1] / tried[0]) ** (1 / (len(tried) - 1))
    for _ in range(WIDER):
        best = min(whole, key=lambda rate: (whole[rate], rate))
        if best == tried[0]:
            tried.insert(0, _rounded(best / ratio))
        elif best == tried[-1]:
            tried.append(_rounded(best * ratio))
        else:
            return
        beyond = tried[0] if best == tried[1] else tried[-1]
        whole[beyond] = (yield [(beyond, steps)])[0]


def longest(rates: Sequence[float], steps: int) -> tuple[int, int]:
    """How many trainings tuning takes where the grid need not be widened, and how many steps these have in all."""
    tuning, trainings, total = tune(rates, steps), 0, 0
    wave = next(tuning)
    while True:
        trainings, total = trainings + len(wave), total + sum(part for _, part in wave)
        try:
            middle = sorted(rate for rate, _ in wave)[(len(wave) - 1) // 2]
            wave = tuning.send([abs(math.log(rate / middle)) for rate, _ in wave])
        except StopIteration:
            return trainings, total
        if len(wave) == 1 and wave[0][0] not in rates:
            return trainings, total


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")
