"""Which modules of a model are scored, their type and layer; which are not, and why.

A module is scored when it is a linear map applied to every token in the model's body, or an expert's that is applied to
the tokens routed to it. Nothing here knows a name that a model family uses: kinds are told by class, shape and place
in the module tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from plop_cli.names import layer_of, module_types, place_of
from plop_cli.network import experts
from plop_cli.network.body import body, ids_within, joints, tower, towers
from plop_registry import Skipped


@dataclass(frozen=True)
class Part:
    """Rows of a fused module's output, such as all of its keys: in each of `groups` equal pieces those start:stop."""

    name: str
    groups: int
    start: int
    stop: int

    def of(self, outputs: Tensor) -> Tensor:
        """A view of these rows, (..., out) → (..., groups, stop − start)."""
        return outputs.view(*outputs.shape[:-1], self.groups, -1)[..., self.start : self.stop]


@dataclass(frozen=True)
class LinearModule:
    """A linear map of the body: its full path, type, layer (None outside the blocks), and W's shape out × in.

    W is `parameter` of `module`, or what `expert` has of it where it stacks several: `experts.down_proj[3]`. `parts`
    are what it is fused of, where `parts.py` has found that out.
    """

    name: str
    type: str
    layer: int | None
    in_features: int
    out_features: int
    module: nn.Module
    parameter: str = "weight"
    expert: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def place(self) -> str:
        """Its name without the number of the expert."""
        return place_of(self.name)


def linear_modules(model: nn.Module, include: Sequence[str] = ()) -> tuple[list[LinearModule], list[Skipped]]:
    """Every linear map in the model's body, in module order, and every other module that holds weights, with a reason.

    Works on the meta device. nn.Linear, its quantized subclasses, transformers' Conv1D, and each expert of a stack
    count as linear. `include` names towers to score too; PlopError where the model has none, or texts do not reach it.
    """
    included = [tower(model, kind) for kind in include]
    inside = ids_within([body(model)]) - ids_within([*towers(model).values(), *joints(model)]) | ids_within(included)
    reasons = _Reasons(model, inside)
    scored: list[tuple[str, nn.Module, str]] = []
    skipped: list[Skipped] = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is None and not is_parametrized(module):
            continue
        if id(module) in inside and experts.observable(module):
            scored += [(f"{name}.{parameter}", module, parameter) for parameter in experts.parameters(module)]
        elif reason := reasons.against(name, module):
            skipped.append(Skipped(name, reason))
        else:
            scored.append((name, module, "weight"))
    types = module_types([place for place, _, _ in scored])
    return [linear for place, module, of in scored for linear in _maps(place, types[place], module, of)], skipped


def _maps(place: str, kind: str, module: nn.Module, parameter: str) -> Iterator[LinearModule]:
    if experts.observable(module):
        number, height, width = experts.matrices(module, parameter).shape
        for expert in range(number):
            name = f"{place}[{expert}]"
            yield LinearModule(name, kind, layer_of(place), width, height, module, parameter, expert)
    else:
        yield LinearModule(place, kind, layer_of(place), *_in_out(module), module)


class _Reasons:
    """Why modules that hold weights are not scored."""

    def __init__(self, model: nn.Module, inside: set[int]) -> None:
        self._model, self._inside = model, inside
        self._towers = {kind: ids_within([tower]) for kind, tower in towers(model).items()}
        self._head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
        self._embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        self._base = ids_within([model.base_model]) if isinstance(model, PreTrainedModel) else set()

    def against(self, name: str, module: nn.Module) -> str | None:
        """Why this module is not scored; None when it is."""
        kind = type(module).__name__
        vectors = all(sum(n > 1 for n in parameter.shape) < 2 for parameter in module.parameters(recurse=False))
        if module is self._head:
            return "the output head: its product is not computed"
        if id(module) not in self._inside:
            return self._elsewhere(id(module))
        if isinstance(module, nn.Embedding):
            return "an embedding looks rows up"
        if id(getattr(module, "weight", None)) in self._embeddings:
            return "an output head: its weight is an embedding's"
        if experts.stacked(module):
            return f"{kind} holds several matrices in one tensor and runs them in a way that cannot be watched"
        if _is_router(self._model, name, module):
            return "a router chooses experts"
        if isinstance(module, nn.Linear | Conv1D):
            return None
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            wide = any(width > 1 for width in module.kernel_size)
            return "a convolution mixes tokens" if wide else "a convolution is no linear layer, even one of width 1"
        return f"{kind} holds vectors, no matrix" if vectors else f"{kind} is not a linear layer"

    def _elsewhere(self, module: int) -> str:
        for kind, members in self._towers.items():
            if module in members:
                return f"the {kind} tower: texts do not run through it"
        if module in self._base:
            return "beside the language model: it joins what the towers see to the text"
        return "a head on top of the model's body: it is not run"


def _is_router(model: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether its matrix has one row for each of the experts beside it, or a single row: the shared expert's share.

    A router may be a module of its own around the matrix, which is then alone in it.
    """
    if isinstance(module, nn.Linear):  # quantized weights are packed into another shape
        rows = {module.out_features}
    else:
        rows = {parameter.shape[0] for parameter in module.parameters(recurse=False) if parameter.ndim == 2}
    parent = name.rpartition(".")[0]
    siblings = list(model.get_submodule(parent).children())
    if len(siblings) == 1 and parent:
        siblings = list(model.get_submodule(parent.rpartition(".")[0]).children())
    return any(rows & {1, number} for number in map(_number_of_experts, siblings) if number > 1)


def _number_of_experts(module: nn.Module) -> int:
    if isinstance(module, nn.ModuleList):
        return len(module)
    return next((p.shape[0] for p in module.parameters(recurse=False) if p.ndim == 3 and experts.stacked(module)), 0)


def _in_out(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features
