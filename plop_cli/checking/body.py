"""A model as a check needs it: the paths of its modules and parameters, without its weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from plop_cli.network import experts
from plop_cli.network.modules import LinearModule, linear_modules


@dataclass(frozen=True)
class Body:
    """`names` are all modules, `linear` those that all-linear means, `head` the output head; `modules` are the linear
    ones of the body and `others` why the rest is not among them. `stacks` are parameters that hold all experts of a
    layer.
    """

    model: nn.Module
    architecture: str
    names: tuple[str, ...]
    linear: tuple[str, ...]
    head: str | None
    modules: tuple[LinearModule, ...]
    others: dict[str, str]
    stacks: tuple[str, ...]
    parameters: int

    def twin(self) -> nn.Module:
        """A copy on the meta device, to try things on."""
        return copy.deepcopy(self.model)

    def layers(self, names: Iterable[str]) -> dict[str, set[int]]:
        """The numbers of the blocks in which modules are, by the path of what holds the blocks."""
        found: dict[str, set[int]] = {}
        for name in names:
            if (place := _BLOCK.match(name)) is not None:
                found.setdefault(place[1], set()).add(int(place[2]))
        return found

    def alike(self, names: Iterable[str]) -> list[str]:
        """The modules of all blocks that stand where one of `names` stands in its own block."""
        places = {_BLOCK.sub(r"\1.", name, count=1) for name in names}
        return [name for name in self.names if _BLOCK.sub(r"\1.", name, count=1) in places]


_BLOCK = re.compile(r"(.*?)\.(\d+)\.")


def body_of(model: nn.Module) -> Body:
    """The body of a model. One with weights is left alone: what is tried on is a twin of its configuration."""
    if not all(parameter.is_meta for parameter in model.parameters()):
        model = _without_weights(model)
    modules, skipped = linear_modules(model)
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    named = [(name, module) for name, module in model.named_modules() if name]
    return Body(
        model=model,
        architecture=type(model).__name__,
        names=tuple(name for name, _ in named),
        linear=tuple(name for name, module in named if isinstance(module, nn.Linear | Conv1D)),
        head=next((name for name, module in named if module is head and head is not None), None),
        modules=tuple(modules),
        others={skip.name: skip.reason for skip in skipped},
        stacks=tuple(dict.fromkeys(_stacks(model))),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _stacks(model: nn.Module) -> Iterable[str]:
    for name, module in model.named_modules():
        if experts.stacked(module):
            yield from (f"{name}.{key}" for key, W in module.named_parameters(recurse=False) if W.ndim == 3)


def _without_weights(model: nn.Module) -> nn.Module:
    if isinstance(model, PreTrainedModel):
        with torch.device("meta"):
            twin: Any = type(model)(copy.deepcopy(model.config))
        return twin  # type: ignore[no-any-return]
    return copy.deepcopy(model).to("meta")
