"""Which part of a model the pass runs, and the towers that stand beside it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from plop_cli.errors import PlopError


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that `torch.compile` was given, where this is what it gave back: of another class, with its weights."""
    own: nn.Module = getattr(model, "_orig_mod", model)
    return own


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
    """The encoders of a multimodal model that stand beside its language model, by what they encode: "vision".

    None where one of them looks up the words: all are then parts of the language model (BLT).
    """
    if not isinstance(model, PreTrainedModel):
        return {}
    kinds = {id(config): kind for config, kind in _beside_text(model.config)}
    encoders: dict[str, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and (kind := kinds.get(id(module.config))):
            encoders.setdefault(kind, module)
    return {} if id(words(model)) in ids_within(encoders.values()) else encoders


def words(model: PreTrainedModel) -> nn.Module | None:
    """What looks up the words of a text; None where the model does not tell (CLIP)."""
    try:
        embeddings: nn.Module = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return embeddings


def _beside_text(config: PretrainedConfig) -> Iterator[tuple[PretrainedConfig, str]]:
    """The configurations inside of this one that are not of its text model; also those of an encoder or a decoder."""
    text = config.get_text_config()
    for key in config.sub_configs:
        inner = getattr(config, key, None)
        if not isinstance(inner, PretrainedConfig) or inner is text:
            continue
        if key.endswith("_config"):
            yield inner, key.removesuffix("_config")
        else:
            yield from _beside_text(inner)


def joints(model: nn.Module) -> list[nn.Module]:
    """What joins the towers to the text: a plain module around one of them, or what is beside two models in a third."""
    encoders, found = ids_within(towers(model).values()), list[nn.Module]()
    for parent in model.modules():
        children = list(parent.children())
        if id(parent) in encoders or not any(id(child) in encoders for child in children):
            continue
        if not isinstance(parent, PreTrainedModel):
            found.append(parent)
        elif sum(isinstance(child, PreTrainedModel) for child in children) > 1:
            found += [child for child in children if not isinstance(child, PreTrainedModel)]
    return found


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
