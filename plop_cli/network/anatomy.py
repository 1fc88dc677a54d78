"""What a model is made of, told without its weights: linear modules, size, and which of them make up the attention.

    told = anatomy(model)          # on any device, the meta device too
    told.attention                 # ("k_proj", "q_proj", "v_proj")
    told.feed_forward              # ("down_proj", "gate_proj", "up_proj")

Attention is where two activations are multiplied with each other. So a twin of the model runs on tensors that have a
shape and no values, each tensor remembers the linear modules that it comes from, and whatever meets in such a product
feeds the attention. No name of a module or class is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from plop_cli.network.body import body
from plop_cli.network.modules import LinearModule, linear_modules
from plop_cli.network.randomness import same_randomness
from plop_registry import Anatomy, Shape

_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}


def anatomy(model: nn.Module) -> Anatomy:
    """The anatomy of a model, which is left as it is. Takes about a tenth of a second."""
    modules, _ = linear_modules(model)
    with same_randomness():
        attention, feed_forward = _roles(model) if isinstance(model, PreTrainedModel) else ((), ())
    return Anatomy(
        architecture=type(model).__name__,
        names=tuple(name for name, _ in model.named_modules() if name),
        modules=tuple(Shape(m.name, m.type, m.in_features, m.out_features) for m in modules),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        attention=attention,
        feed_forward=feed_forward,
    )


def _roles(model: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The types that feed the attention, and those of the blocks that have no part in it."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"  # plain products, whatever kernels the model itself uses
    with torch.device("meta"):
        twin = type(model)(config).bfloat16()  # the only dtype that grouped experts know
    modules, _ = linear_modules(twin)
    trace = _Trace()
    try:
        trace.run(twin.eval(), modules)
    except Exception:  # noqa: BLE001  # a model's own code, on tensors that it was not written for
        return (), ()
    inside = trace.attention_blocks()
    seen = [module for module in modules if module.name in trace.inputs and module.layer is not None]
    attention = {module.type for module in seen if module.name in trace.attended}
    others = {module.type for module in seen if not module.name.startswith(inside)}
    return tuple(sorted(attention)), tuple(sorted(others - attention))


class _EverythingSeen(Exception):
    """One module of each type has run; the other blocks are more of the same."""


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers for each tensor's storage from which linear modules it comes, with no other linear module between."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs: dict[str, frozenset[str]] = {}
        """Of each linear module that ran: where its input comes from."""
        self.attended: set[str] = set()
        """The linear modules whose outputs meet in a product."""
        self._sources: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # a freed storage's address would be used again

    def run(self, model: PreTrainedModel, modules: Iterable[LinearModule]) -> None:
        """One forward of a few tokens, until each type has been seen."""
        missing = {module.type for module in modules}

        def before(module: LinearModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.inputs[module.name] = self._of(args[0] if args else next(iter(kwargs.values())))

        def after(module: LinearModule, output: Tensor) -> None:
            self._sources[_storage(output)] = frozenset([module.name])
            missing.discard(module.type)
            if not missing:
                raise _EverythingSeen

        with ExitStack() as stack:
            for module in modules:
                handles = (
                    module.module.register_forward_pre_hook(
                        lambda _, args, kwargs, module=module: before(module, args, kwargs), with_kwargs=True
                    ),
                    module.module.register_forward_hook(lambda _, args, output, module=module: after(module, output)),
                )
                for handle in handles:
                    stack.callback(handle.remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            stack.enter_context(self)
            tokens = {"input_ids": torch.zeros(1, 3, dtype=torch.long, device="meta")}
            if model.config.is_encoder_decoder:
                tokens["decoder_input_ids"] = tokens["input_ids"]
            with suppress(_EverythingSeen):
                body(model)(**tokens)

    def attention_blocks(self) -> tuple[str, ...]:
        """Paths that hold an attention: what is common to its output projection and to what feeds it."""
        blocks = set()
        for name, sources in self.inputs.items():
            if name not in self.attended and (fed := sources & self.attended):
                parts = zip(*(path.split(".") for path in (name, *fed)), strict=False)
                blocks.add("".join(f"{part[0]}." for part in takewhile(lambda part: len(set(part)) == 1, parts)))
        return tuple(blocks)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        sources = [self._of(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        name = func.overloadpacket.__name__
        if (name in _PRODUCTS or "attention" in name) and sum(map(bool, sources)) > 1:
            self.attended.update(*sources)
        for tensor in (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)):
            self._sources[_storage(tensor)] = self._of(tensor).union(*sources)
            self._alive.append(tensor)
        return output

    def _of(self, tensor: Tensor) -> frozenset[str]:
        return self._sources.get(_storage(tensor), frozenset())


def _storage(tensor: Tensor) -> int:
    """What a tensor shares with its views and with what is written into it in place."""
    address: int = tensor.untyped_storage()._cdata
    return address
