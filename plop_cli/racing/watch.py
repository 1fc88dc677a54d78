"""What a race tells while it runs. This one keeps quiet; the command line's shows it."""

from __future__ import annotations

from collections.abc import Callable

from plop_registry import Entry, Lap


class Watch:
    """Told of all that happens in this process."""

    def note(self, text: str) -> None:
        """Something that a user would not guess."""

    def estimate(self, seconds: float, laps: int, steps: int) -> None:
        """How long the laps still to be run, of so many steps in all, will take where no grid of rates is widened."""

    def begin(self, entry: Entry, rate: float, seed: int, steps: int) -> Callable[[int, float], None]:
        """A lap begins; what is returned is told of each of its steps: the number, from 1, and the loss."""
        return lambda number, loss: None

    def finish(self, entry: Entry, lap: Lap) -> None:
        """A lap is run and stored."""

    def drop(self, entry: Entry) -> None:
        """A contestant is behind beyond chance, and races no further."""
