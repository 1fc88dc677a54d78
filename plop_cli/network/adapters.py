"""PEFT models, seen as what they compute: plain linear maps whose weights have the adapters in them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def merged(model: nn.Module) -> Iterator[nn.Module]:
    """The base model with every adapter merged into a copy of its layer, as PEFT merges it; all as before afterwards.

    Merging in place and unmerging again would round the weights. The copies take the memory of the adapted layers. A
    model without adapters is yielded as it is.
    """
    get_base_model = getattr(model, "get_base_model", None)
    base = get_base_model() if get_base_model else model
    with ExitStack() as stack:
        if "peft" in sys.modules:  # else nothing can be of it
            with torch.no_grad():
                _merge(base, stack)
        yield base


def _merge(parent: nn.Module, stack: ExitStack) -> None:
    for name, child in list(parent.named_children()):
        if (plain := _plain(child)) is child:
            _merge(child, stack)
        else:
            stack.callback(setattr, parent, name, child)
            setattr(parent, name, plain)


def _plain(layer: Any) -> Any:
    """The layer itself, or where it is one of PEFT's, a copy of what it wraps with what it adds."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if hasattr(layer, "unload_and_optionally_merge_module"):  # knows how it is merged
        return copy.deepcopy(layer).unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    if not isinstance(layer, BaseTunerLayer):
        return layer
    twin = copy.deepcopy(layer)
    twin.merge()
    return twin.get_base_layer()
