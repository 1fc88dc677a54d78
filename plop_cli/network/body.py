"""Which part of a model the pass runs, and the towers that stand beside it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

from plop_cli.errors import PlopError


def body(model: nn.Module) -> nn.Module:
    """The part of the model that the pass runs: without output head, and of a multimodal model the language model.

    T5 alone keeps its output head where its encoder and decoder are; `forward.py` runs around it.
    """
    if not isinstance(model, PreTrainedModel):
        return model
    if model.config.get_text_config() is not model.config and not model.config.is_encoder_decoder:
        language_model: nn.Module = model.get_decoder()
        return language_model
    base: nn.Module = model.base_model
    return base


def towers(model: nn.Module) -> dict[str, nn.Module]:
    """The encoders of a multimodal model that stand beside its language model, by what they encode: "vision"."""
    if not isinstance(model, PreTrainedModel):
        return {}
    config, text = model.config, model.config.get_text_config()
    keys = [key for key in config.sub_configs if key.endswith("_config") and getattr(config, key, text) is not text]
    kinds = {id(getattr(config, key)): key.removesuffix("_config") for key in keys}
    encoders: dict[str, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and (kind := kinds.get(id(module.config))):
            encoders.setdefault(kind, module)
    return encoders


def tower(model: nn.Module, kind: str) -> nn.Module:
    """The tower to include; PlopError where there is none, or one that is not run by texts."""
    known, name = towers(model), type(model).__name__
    if kind not in known:
        others = f"it has {', '.join(known)}" if known else f"leave out --include {kind}"
        raise PlopError(f"{name} has no {kind} tower; {others}")
    takes = list(inspect.signature(known[kind].forward).parameters)
    if "input_ids" not in takes:
        raise PlopError(
            f"the {kind} tower of {name} takes {takes[0]}, which texts do not give; leave out --include {kind}"
        )
    return known[kind]


def ids_within(parts: Iterable[nn.Module]) -> set[int]:
    """The ids of these modules and of all modules inside of them."""
    return {id(module) for part in parts for module in part.modules()}
