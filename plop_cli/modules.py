"""Which modules of a model are scored, their type and layer; which are not, and why.

A module is scored when it is a linear map applied to every token in the model's body. Nothing here knows a name that
a model family uses: kinds are told by class, shape and place in the module tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from plop_registry import Skipped


@dataclass(frozen=True)
class LinearModule:
    """A linear map of the body: its full path, type, layer (None outside the blocks), and W's shape out × in."""

    name: str
    type: str
    layer: int | None
    in_features: int
    out_features: int
    module: nn.Module


def body(model: nn.Module) -> nn.Module:
    """The part of the model that the pass runs: without output head, and of a multimodal model the language model."""
    if not isinstance(model, PreTrainedModel):
        return model
    if model.config.get_text_config() is not model.config:
        language_model: nn.Module = model.get_decoder()
        return language_model
    base: nn.Module = model.base_model
    return base


def linear_modules(model: nn.Module) -> tuple[list[LinearModule], list[Skipped]]:
    """Every linear map in the model's body, in module order, and every other module that holds weights, with a reason.

    Works on the meta device. nn.Linear, its quantized subclasses, and transformers' Conv1D count as linear.
    """
    inside = {id(module) for module in body(model).modules()}
    scored: dict[str, nn.Module] = {}
    skipped: list[Skipped] = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        reason = _why_not(model, name, module, id(module) in inside)
        if reason is None:
            scored[name] = module
        else:
            skipped.append(Skipped(name, reason))
    types = module_types(list(scored))
    modules = [
        LinearModule(name, types[name], layer_of(name), *_in_out(module), module) for name, module in scored.items()
    ]
    return modules, skipped


def layer_of(name: str) -> int | None:
    """The index of the block: the first number in the path."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def module_types(names: Sequence[str]) -> dict[str, str]:
    """The type of each module name: the last part of its path, extended to the left while two places share it.

    Places are paths without their block numbers: every `layers.N.mlp.up_proj` is one place, and its type is `up_proj`.
    GPT-2's `attn.c_proj` and `mlp.c_proj` are two places with one last part, so both keep the part before it.
    """
    places = {name: tuple(part for part in name.split(".") if not part.isdigit()) for name in names}
    distinct = set(places.values())
    suffix = {place: next(_unique_suffixes(place, distinct)) for place in distinct}
    return {name: suffix[place] for name, place in places.items()}


def _unique_suffixes(place: tuple[str, ...], places: set[tuple[str, ...]]) -> Iterator[str]:
    for length in count(1):
        end = place[-length:]
        if length >= len(place) or not any(other[-length:] == end for other in places if other != place):
            yield ".".join(end)


def _why_not(model: nn.Module, name: str, module: nn.Module, inside: bool) -> str | None:
    """Why this module, which holds weights, is not scored; None when it is."""
    kind = type(module).__name__
    if isinstance(model, PreTrainedModel) and module is model.get_output_embeddings():
        return "the output head: its product is not computed"
    if not inside:
        return f"outside the model's body ({kind})"
    if isinstance(module, nn.Embedding):
        return "an embedding looks rows up"
    if any(parameter.ndim == 3 for parameter in module.parameters(recurse=False)) and not _is_convolution(module):
        return f"{kind} holds several experts in one tensor, which this version does not score"
    if _is_router(model, name, module):
        return "a router chooses experts"
    if isinstance(module, nn.Linear | Conv1D):
        return None
    if _is_convolution(module):
        return "a convolution mixes tokens"
    if all(parameter.ndim == 1 for parameter in module.parameters(recurse=False)):
        return f"{kind} scales its input element by element"
    return f"{kind} is not a linear layer"


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _is_router(model: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether its matrix has one row for each of the experts beside it."""
    rows = {parameter.shape[0] for parameter in module.parameters(recurse=False) if parameter.ndim == 2}
    siblings = model.get_submodule(name.rpartition(".")[0]).children()
    return any(experts in rows for experts in map(_experts, siblings) if experts > 1)


def _experts(module: nn.Module) -> int:
    if isinstance(module, nn.ModuleList):
        return len(module)
    stacked = (p.shape[0] for p in module.parameters(recurse=False) if p.ndim == 3)
    return 0 if _is_convolution(module) else next(stacked, 0)


def _in_out(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features
