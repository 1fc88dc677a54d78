"""PEFT models, seen as what they compute: plain linear maps whose weights have the adapters in them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from plop_cli.errors import PlopError


def has_adapters(model: nn.Module) -> bool:
    """Whether PEFT has put something on the model, or on a layer of it."""
    if "peft" not in sys.modules:
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return hasattr(model, "get_base_model") or any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def merged(model: nn.Module) -> Iterator[nn.Module]:
    """The base model with every active adapter merged into a copy of its layer, as PEFT merges it; afterwards all is as
    before.

    Merging in place and unmerging again would round the weights. The copies take the memory of the adapted layers. A
    model without adapters is yielded as it is. Raises PlopError where an adapter cannot be merged.
    """
    get_base_model = getattr(model, "get_base_model", None)
    base = get_base_model() if get_base_model else model
    with ExitStack() as stack:
        if "peft" in sys.modules:  # else nothing can be of it
            try:
                with torch.no_grad():
                    _merge(base, stack)
            except Exception as error:  # each kind of adapter has its own reasons
                why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise PlopError(f"the model's adapters cannot be merged ({why}); score it without them") from error
        yield base


def _merge(parent: nn.Module, stack: ExitStack) -> None:
    for name, child in list(parent.named_children()):
        if (plain := _plain(child)) is child:
            _merge(child, stack)
        else:
            stack.callback(setattr, parent, name, child)
            setattr(parent, name, plain)


def _plain(layer: Any) -> Any:
    """The layer itself, or where it is one of PEFT's, a copy of what it wraps with what it adds, if it adds it now."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if getattr(layer, "disable_adapters", False) is True:
        return _bare(layer)
    if hasattr(layer, "unload_and_optionally_merge_module"):  # knows how it is merged
        return copy.deepcopy(layer).unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    if not isinstance(layer, BaseTunerLayer):
        return layer
    twin = copy.deepcopy(layer)
    if set(twin.active_adapters) - set(twin.merged_adapters):  # merging twice would only warn
        twin.merge()
    return twin.get_base_layer()


def _bare(layer: Any) -> Any:
    """What one of PEFT's layers wraps, without what is merged into it: its adapters are switched off."""
    if not hasattr(layer, "get_base_layer"):
        return layer.original_module
    if not layer.merged:
        return layer.get_base_layer()
    twin = copy.deepcopy(layer)
    twin.unmerge()
    return twin.get_base_layer()


def refuse_prompts(model: nn.Module) -> None:
    """Raise PlopError for a PEFT model that puts trained prompts before each text: plop does not."""
    config = getattr(model, "active_peft_config", None)
    if config is not None and config.is_prompt_learning:
        raise PlopError(f"{config.peft_type.value} puts what it learned before each text; score model.get_base_model()")
