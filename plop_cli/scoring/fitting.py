"""What to do when a batch does not fit: take half of it, and no more than that from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from plop_cli.errors import PlopError
from plop_cli.scoring.batches import Batch


class Fitting:
    """Calls `run` with a batch, or with parts of it where the whole does not fit into the device's memory.

        step = Fitting(run)
        for batch in batches(...):
            step(batch)
        step.budget        # tokens that fit, None if all did

    `run` must leave no trace when it raises torch.OutOfMemoryError. Raises PlopError where one text is too much.
    """

    def __init__(self, run: Callable[[Batch], Any]) -> None:
        self._run = run
        self.budget: int | None = None

    def __call__(self, batch: Batch) -> None:
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            if self.budget is not None and part.input_ids.numel() > self.budget and len(part.rows) > 1:
                waiting += part.halves()
            elif not self._fits(part):
                if len(part.rows) == 1:
                    raise PlopError(
                        f"a text of {part.input_ids.numel()} tokens does not fit in memory beside the weights; "
                        "give a smaller --max-length, or --offload cpu"
                    )
                self.budget = part.input_ids.numel() // 2
                waiting.append(part)

    def _fits(self, part: Batch) -> bool:
        try:
            self._run(part)
        except torch.OutOfMemoryError:
            pass  # what the forward held is freed when this block is left
        else:
            return True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return False
