"""Attach, yield, always remove.

    with evaluating(model), watching({module: hook}):
        model(input_ids)

Whatever happens inside, and also when attaching fails half-way, every hook is gone and every module's training flag is
as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from plop_cli.network.randomness import same_randomness


class ForwardHook(Protocol):
    """What is called after a module's forward, with its arguments and its output."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None: ...


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, and random states as before afterwards.

    It is not inference mode: what a module keeps must stay fit for training.
    """
    with ExitStack() as stack, torch.inference_mode(False), torch.no_grad(), same_randomness():
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        model.eval()
        yield


@contextmanager
def watching(hooks: Mapping[nn.Module, ForwardHook]) -> Iterator[None]:
    """A forward hook on each of the given modules."""
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield
