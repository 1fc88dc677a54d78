"""Where a model's weights lie, by accelerate's dispatch: on one device, split over GPUs, or partly in RAM or on disk.

Weights that were moved away are fetched for each forward of their module and dropped after it; outside of it they are
on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

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


def at_next_forward(module: nn.Module, act: Callable[[Any], None]) -> Callable[[], None]:
    """Have `act` called once, in the module's next forward, while its weights are in memory; gives what takes it back.

    It is given the forward, as `fetched` yields it.
    """
    inner = getattr(module, "_old_forward", None)
    if inner is None:

        def before(*_: Any) -> None:
            act(module.forward)
            handle.remove()

        handle = module.register_forward_pre_hook(before)
        return handle.remove

    def forward(*args: Any, **kwargs: Any) -> Any:  # a hook would be called before accelerate's fetches the weights
        act(inner)
        take_back()
        return inner(*args, **kwargs)

    take_back = partial(setattr, module, "_old_forward", inner)
    cast(Any, module)._old_forward = forward
    return take_back
