"""Experts held as 3D parameters: a forward that shows what each expert made of the tokens routed to it.

    with observing({experts: observe}):
        model(input_ids)

transformers lets the forward of such modules be chosen by the configuration (`ExpertsInterface`). Inside the block the
one below is chosen: it sorts tokens by expert, so that a layer's outputs are two tensors, however many experts it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from plop_cli.method import nfn

_NAME = "plop"
_FLAGS = ("config", "has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "_apply_gate")


class Routed(NamedTuple):
    """Which expert was given which token: pairs in ascending order of experts, out of `rows` tokens."""

    experts: Tensor
    tokens: Tensor
    rows: int


class ExpertsHook(Protocol):
    """What is called for each parameter of an experts module: W z (pairs, out), without bias, and ‖z‖ (pairs,)."""

    def __call__(self, parameter: str, Wz: Tensor, z_norms: Tensor, routed: Routed) -> None: ...


def stacked(module: nn.Module) -> bool:
    """Whether it holds several matrices in one tensor, as experts are held."""
    convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return not convolution and any(p.ndim == 3 and p.shape[0] > 1 for p in module.parameters(recurse=False))


def observable(module: nn.Module) -> bool:
    """Whether its forward is chosen through transformers' interface, and is one that the forward here computes too."""
    # A subclass with a forward of its own inherits the flags; the interface's wrapper is then not what is called.
    if not (all(hasattr(module, flag) for flag in _FLAGS) and hasattr(type(module).forward, "__wrapped__")):
        return False
    weights = [getattr(module, parameter, None) for parameter in parameters(module)]
    unpacked = all(isinstance(W, Tensor) and W.ndim == 3 and W.is_floating_point() and W.itemsize > 1 for W in weights)
    return unpacked and not module.has_post_expert_norm and not getattr(module, "_is_expert_parallel", False)


def parameters(module: Any) -> tuple[str, str]:
    """The names of its two weights, in the order in which a token meets them."""
    return "gate_up_proj" if module.has_gate else "up_proj", "down_proj"


def matrices(module: Any, parameter: str) -> Tensor:
    """A view of all experts' W, (experts, out, in)."""
    weight: Tensor = getattr(module, parameter)
    return weight.mT if module.is_transposed else weight


@contextmanager
def observing(hooks: Mapping[nn.Module, ExpertsHook]) -> Iterator[None]:
    """The forward below in every module whose configuration one of the given modules has, hooked in the given ones."""

    def forward(module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        return _forward(module, hidden_states, top_k_index, top_k_weights, hooks.get(module))

    with ExitStack() as stack:
        if hooks:
            ALL_EXPERTS_FUNCTIONS[_NAME] = forward
            stack.callback(ALL_EXPERTS_FUNCTIONS.pop, _NAME)
        for config in {id(module.config): cast(Any, module.config) for module in hooks}.values():
            # A plain name would be set in the configuration's sub-configurations too, and not be restored there.
            stack.callback(setattr, config, "_experts_implementation", {"": config._experts_implementation})
            config._experts_implementation = {"": _NAME}
        yield


def _forward(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, hook: ExpertsHook | None
) -> Tensor:
    """hidden_states (rows, in); top_k_index and top_k_weights (rows, k) → (rows, in)."""
    rows, k = top_k_index.shape
    experts, order = top_k_index.flatten().sort(stable=True)
    routed = Routed(experts, order // k, rows)
    up, down = parameters(module)
    # The host must know where each expert's tokens end: one synchronisation per layer.
    sizes = experts.bincount(minlength=len(getattr(module, up))).tolist()

    def multiply(parameter: str, z: Tensor) -> Tensor:
        weights = matrices(module, parameter)
        z = z.to(weights.dtype)
        Wz = z.new_empty(len(z), weights.shape[1])
        for W, inputs, outputs in zip(weights, torch.split(z, sizes), torch.split(Wz, sizes), strict=True):
            torch.mm(inputs, W.T, out=outputs)
        return Wz

    def add_bias(parameter: str, Wz: Tensor) -> Tensor:
        return Wz + getattr(module, f"{parameter}_bias")[experts] if module.has_bias else Wz

    Wz = multiply(up, hidden_states[routed.tokens])
    if hook:
        hook(up, Wz, nfn.norms(hidden_states)[routed.tokens], routed)
    inner = add_bias(up, Wz)
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    Wz = multiply(down, inner)
    if hook:
        hook(down, Wz, nfn.norms(inner), routed)
    weighted = add_bias(down, Wz) * top_k_weights.flatten()[order, None]
    in_order = torch.empty_like(weighted)
    in_order[order] = weighted
    return in_order.view(rows, k, -1).sum(dim=1).to(hidden_states.dtype)
