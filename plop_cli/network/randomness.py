"""The random generators of the whole process, which a model's code may draw from: they are the caller's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def same_randomness(*, cuda: bool = False) -> Iterator[None]:
    """Afterwards, Python's, NumPy's and torch's generators are in the states in which they were.

    Args: `cuda`, that GPUs come into use inside; where they are in use already, theirs are kept in any case.
    """
    in_use = cuda or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = list(range(torch.cuda.device_count())) if in_use else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
