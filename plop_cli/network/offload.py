"""Where a model's weights lie, by accelerate's dispatch: on one device, split over GPUs, or partly in RAM or on disk.

Weights that were moved away are fetched for each forward of their module and dropped after it; outside of it they are
on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from plop_cli.network.ahead import Ahead


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


class Reads(Mapping[str, Tensor]):
    """Weights that were moved away, as accelerate fetches them: `bytes` counts what was fetched of them.

    With each the system is asked for those that follow.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._ahead = Ahead(getattr(weights, "index", {}))
        self.bytes = 0

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        self._ahead.of(name)
        self.bytes += weight.nbytes
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


@contextmanager
def counted_reads(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Inside, what is fetched of weights that were moved away is counted: yields what tells the bytes so far."""
    counts: dict[int, Reads] = {}
    with ExitStack() as stack:
        for module in model.modules():
            hook: Any = getattr(module, "_hf_hook", None)
            for each in getattr(hook, "hooks", [hook]):
                prefixed: Any = getattr(each, "weights_map", None)  # accelerate's view, by prefix, of one map for all
                if isinstance(weights := getattr(prefixed, "dataset", None), Mapping):
                    stack.callback(setattr, prefixed, "dataset", weights)
                    prefixed.dataset = counts.setdefault(id(weights), Reads(weights))
        yield lambda: sum(count.bytes for count in counts.values())


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
