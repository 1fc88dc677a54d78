"""Where a model's weights lie, by accelerate's dispatch: on one device, split over GPUs, or partly in RAM or on disk.

Weights that were moved away are fetched for each forward of their module and dropped after it; outside of it they are
on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import nn


def is_offloaded(module: nn.Module) -> bool:
    """Whether some weight of `module` is out of its device's memory."""
    return any(parameter.is_meta for parameter in module.parameters())


def execution_device(module: nn.Module) -> torch.device:
    """Where the products of a linear module are computed, whether or not its weight is there now."""
    hook = getattr(module, "_hf_hook", None)
    where = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if where is None else torch.device(where)


@contextmanager
def fetched(linear: nn.Module) -> Iterator[Any]:
    """A linear module with its weight in memory: yields its forward, (..., in) → (..., out).

    Below accelerate's hook, which would fetch the weight anew for every call and drop it after; and below hooks that
    change its input, since z is what the forward is given.
    """
    with align_module_device(linear):
        yield getattr(linear, "_old_forward", linear.forward)
