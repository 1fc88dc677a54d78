"""Fused projections in parts: which rows of a module's output are its q, k and v, or its gate and its up.

    modules, failures = in_parts(model, modules, device)      # each with the parts that it is fused of

Shapes do not tell: GPT-2 writes all queries and then all keys, GPT-NeoX each head's query and then its key. Nor does
the configuration, which says how many heads there are and how wide. So the model itself is asked: it is given noise in
place of the module's output, and what it makes of that is watched.

- A lone token attends to nothing but itself: what comes out depends on its v, and not on its q and k.
- The second of two tokens has no use for the first one's q, but for its k.
- A gate that is shut lets nothing through, whatever up is.

A module that stands these tests in one reading of its rows, and in no other, has those parts; any other has none. Parts
are for insight: where a model's own code fails on noise, its modules are scored all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from plop_cli.network.experts import parameters
from plop_cli.network.forward import forward
from plop_cli.network.hooks import evaluating
from plop_cli.network.modules import LinearModule, Part

Parts = tuple[Part, ...]

_SHUT = -1e4  # silu and its like are 0 there, and float16 holds it
_NONE, _SOME = 1e-3, 1e-2
"""Of the effect of noise in all rows: at most this much is no effect of some, and at least this much is one."""


def in_parts(
    model: nn.Module, modules: Sequence[LinearModule], device: torch.device
) -> tuple[list[LinearModule], list[str]]:
    """The same modules with their parts, and a line for each type whose parts could not be looked for.

    The first module of each type and shape is asked for all of them. `device` is where the model wants its input. A
    model in which nothing has the shape of a fused one is not run.
    """
    first: dict[tuple[str, int], LinearModule] = {}
    for module in modules:
        first.setdefault((module.type, module.out_features), module)
    questions = {kind: _Question(model, module) for kind, module in first.items() if module.expert is None}
    known: dict[tuple[str, int], Parts] = dict.fromkeys(first, ())
    failures: dict[str, str] = {}
    asked = {kind: question for kind, question in questions.items() if any(question.readings())}
    with evaluating(model):
        with _noting(failures, [kind for kind, _ in asked]):
            _record(model, list(asked.values()), device)
        for kind, module in first.items():
            with _noting(failures, [module.type]):
                known[kind] = questions[kind].answer() if kind in questions else _of_experts(module)
    lines = [f"{kind} is not told in parts: the model fails on noise ({why})" for kind, why in failures.items()]
    return [replace(module, parts=known[module.type, module.out_features]) for module in modules], lines


@contextmanager
def _noting(failures: dict[str, str], types: Sequence[str]) -> Iterator[None]:
    """Keep as these types' failure whatever is raised inside: a model's own code meets what it was not made for."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        failures |= dict.fromkeys(types, " ".join(f"{type(error).__name__}: {error}".split())[:200])


def _attention(heads: int, width: int, out: int) -> Iterator[Parts]:
    """Readings as q, k and v: each in one piece, or in pieces by key head, with the queries that share the key."""
    keys, rest = divmod(out - heads * width, 2 * width)
    if rest or keys < 1 or heads % keys:
        return
    for groups in {1, keys}:
        q, kv = heads * width // groups, keys * width // groups
        yield Part("q", groups, 0, q), Part("k", groups, q, q + kv), Part("v", groups, q + kv, q + 2 * kv)


def _gated(out: int) -> Iterator[Parts]:
    """Readings as gate and up: half and half, or taking turns, either of them first."""
    for groups in (1, out // 2):
        half = out // 2 // groups
        for first, second in (("gate", "up"), ("up", "gate")):
            yield Part(first, groups, 0, half), Part(second, groups, half, 2 * half)


def _is_attention(alone: _Call, pair: _Call, parts: Parts) -> bool:
    q, k, v = parts
    return (
        _effect(alone, q, k) < _NONE < _SOME < _effect(alone, v)
        and _effect(pair, q) < _NONE < _SOME < _effect(pair, k)
    )  # fmt: skip


def _effect(call: _Call, *parts: Part) -> float:
    """How far other noise in these rows of the first token moves what comes out of the last, in units of all rows."""
    noise, other = (call.noise(seed) for seed in (0, 1))
    mixed = noise.clone()
    for part in parts:
        part.of(mixed)[:, 0] = part.of(other)[:, 0]
    before, after, most = (call(outputs)[..., -1, :].float() for outputs in (noise, mixed, other))
    return float((after - before).abs().max() / (most - before).abs().max())


def _is_gate(through: Callable[[Tensor], Tensor], noise: Tensor, parts: Parts) -> bool:
    shut = {part.name: noise.clone() for part in parts}
    for part in parts:
        part.of(shut[part.name])[:] = _SHUT
    gate, up, most = (float(through(outputs).abs().max()) for outputs in (shut["gate"], shut["up"], noise))
    return gate < _NONE * most < up


def _only(passing: Iterator[Parts]) -> Parts:
    readings = list(passing)
    return readings[0] if len(readings) == 1 else ()


def _of_experts(module: LinearModule) -> Parts:
    experts: Any = module.module
    if not experts.has_gate or module.parameter != parameters(experts)[0]:
        return ()
    noise = _noise(getattr(experts, module.parameter).new_empty(1, module.out_features), 0)
    return _only(parts for parts in _gated(module.out_features) if _is_gate(experts._apply_gate, noise, parts))


class _Question:
    """What a linear module is fused of, to be answered by the module that it is in."""

    def __init__(self, model: nn.Module, module: LinearModule) -> None:
        self.linear, self.out = module.module, module.out_features
        self.parent = model.get_submodule(module.name.rpartition(".")[0])
        self.calls: list[_Call] = []
        """Of the parent, with one token and with two."""
        config = getattr(model, "config", None)
        text: Any = config.get_text_config() if config is not None else None
        if getattr(text, "is_heterogeneous", False):  # widths of its heads differ from layer to layer
            text = None if module.layer is None else text.per_layer_config[module.layer]
        self._heads: int | None = getattr(text, "num_attention_heads", None)
        self._width: int = getattr(text, "head_dim", None) or (module.in_features // self._heads if self._heads else 0)
        inner = (child for child in self.parent.children() if getattr(child, "in_features", None) == self.out / 2)
        self._inner = next(inner, None)

    def readings(self) -> Iterator[Parts]:
        if self._heads and self._width:
            yield from _attention(self._heads, self._width, self.out)
        if self._inner:
            yield from _gated(self.out)

    def answer(self) -> Parts:
        return _only(parts for parts in self.readings() if self._stands(parts)) if len(self.calls) == 2 else ()

    def _stands(self, parts: Parts) -> bool:
        alone, pair = self.calls
        if len(parts) == 3:
            return _is_attention(alone, pair, parts)
        return _is_gate(partial(pair, watched=self._inner), pair.noise(0), parts)


@dataclass(frozen=True)
class _Call:
    """A call of the module that a linear one is in, to be made again with other outputs of the linear one."""

    linear: nn.Module
    parent: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Tensor

    def __call__(self, outputs: Tensor, watched: nn.Module | None = None) -> Tensor:
        """What the parent gives out then, or what `watched` in it is given."""
        given: list[Tensor] = []
        with ExitStack() as stack:
            stack.callback(self.linear.register_forward_hook(lambda *_: outputs).remove)
            if watched:
                stack.callback(watched.register_forward_pre_hook(lambda _, args: given.append(args[0])).remove)
            output = self.parent(*self.args, **self.kwargs)
        return given[0] if watched else output[0] if isinstance(output, tuple) else output

    def noise(self, seed: int) -> Tensor:
        return _noise(self.outputs, seed)


def _noise(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)


class _AllKept(Exception):
    """Every question has its call; the layers after it need not run."""


def _record(model: nn.Module, questions: Sequence[_Question], device: torch.device) -> None:
    """Run the model on one token and on two, as far as needed, and keep how the parents were called."""
    if not questions:
        return
    run = forward(model)
    for length in (1, 2):
        waiting = {id(question) for question in questions}
        with ExitStack() as stack:
            stack.enter_context(suppress(_AllKept))
            for question in questions:
                _keep_call(question, waiting, stack)
            mask = torch.ones(1, length, dtype=torch.bool, device=device)
            run(torch.zeros_like(mask, dtype=torch.long), mask)


def _keep_call(question: _Question, waiting: set[int], stack: ExitStack) -> None:
    outputs: list[Tensor] = []

    def keep(parent: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        if not outputs:  # the parent uses the weight without calling the module
            return
        question.calls.append(_Call(question.linear, parent, args, kwargs, outputs[-1]))
        waiting.discard(id(question))
        if not waiting:
            raise _AllKept

    stack.callback(question.linear.register_forward_hook(lambda *call: outputs.append(call[-1])).remove)
    stack.callback(question.parent.register_forward_hook(keep, with_kwargs=True).remove)
