"""What other methods say of the activations, out of the pass that NFN is taken from.

    watcher = Watcher(model, modules)
    with watcher.watching(), watcher.batch(rows, mask):
        model(input_ids)
    eva, influence = watcher.opinions()

EVA is taken of every fourth token of a text, block influence of all; padding, and what is not scored, is in neither.
"""

from __future__ import annotations

import math
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from plop_cli.names import block_of
from plop_cli.network.hooks import ForwardHook, watching
from plop_cli.network.modules import LinearModule
from plop_cli.opinions.methods import METHODS
from plop_cli.opinions.sketch import Sketch, State, explained
from plop_cli.processes import ALONE, Group
from plop_registry import ModuleValue, Opinion, Skipped

RANK = 16
"""Directions whose share of the variance is taken: a usual rank of adapters, and plop's default."""

EVERY = 4
"""One token in so many is looked at for the variance of inputs."""


class Watcher:
    """EVA's explained variance of each module's inputs, and ShortGPT's influence of each block."""

    def __init__(self, model: nn.Module, modules: Sequence[LinearModule]) -> None:
        self._modules = modules
        self._inputs = _Inputs(modules)
        self._blocks = _Blocks(model, modules)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on the modules and on the blocks."""
        with watching(self._inputs.hooks()), self._blocks.watching():
            yield

    @contextmanager
    def batch(self, rows: Tensor, mask: Tensor) -> Iterator[None]:
        """Around one forward, as `Meter.batch`. What a forward that fails has shown is forgotten."""
        turn = torch.arange(mask.shape[1], device=mask.device) + rows.to(mask.device)[:, None]
        self._inputs.begin(_Tokens(mask & (turn % EVERY == 0)))
        self._blocks.begin(_Tokens(mask))
        yield
        self._inputs.end()
        self._blocks.end()

    def opinions(self, group: Group = ALONE) -> tuple[Opinion, ...]:
        """What both methods say, over the texts of all processes: all have to ask."""
        return self._inputs.opinion(group), self._blocks.opinion(group)


class Unasked:
    """A watcher where nobody asks for opinions: it watches nothing, and has none."""

    def watching(self) -> AbstractContextManager[None]:
        return nullcontext()

    def batch(self, rows: Tensor, mask: Tensor) -> AbstractContextManager[None]:
        return nullcontext()

    def opinions(self, group: Group = ALONE) -> tuple[Opinion, ...]:
        return ()


class _Tokens:
    """Where the tokens that count lie, among values by token in the order of `mask` (batch, length)."""

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask
        self._flat = mask.flatten().nonzero()[:, 0]
        self._length_first = mask.T.flatten().nonzero()[:, 0]

    def among(self, shape: torch.Size) -> Tensor | None:
        """The places of those that count, among values of this shape, flattened; None where they are not by token."""
        wide = [n for n in shape if n > 1]
        if wide in ([n for n in self._mask.shape if n > 1], [self._mask.numel()]):
            return self._flat
        return self._length_first if wide == [n for n in self._mask.T.shape if n > 1] else None


class _Inputs:
    """EVA: a sketch of the inputs of each module, one for modules that are always given the same tensor."""

    def __init__(self, modules: Sequence[LinearModule]) -> None:
        self._modules = modules
        self._sketches: dict[int, Sketch] = {}
        self._pending: dict[int, Sketch] = {}
        self._owner: dict[int, int] = {}
        self._against: dict[int, str] = {}
        self._last: tuple[weakref.ref[Tensor], int, int] | None = None
        self._seconds = 0.0

    def hooks(self) -> dict[nn.Module, ForwardHook]:
        return {m.module: self._hook(column) for column, m in enumerate(self._modules) if m.expert is None}

    def begin(self, tokens: _Tokens) -> None:
        self._tokens, self._pending, self._last = tokens, {}, None

    def end(self) -> None:
        self._sketches |= self._pending

    def opinion(self, group: Group) -> Opinion:
        values, left_out = [], []
        owner: dict[int, int] = {}
        for each in group.gather(self._owner):
            owner |= each
        against = {column: why for each in group.gather(self._against) for column, why in each.items()}
        started = time.perf_counter()
        shares = {column: self._share(column, group) for column in sorted(set(owner.values()))}
        for column, module in enumerate(self._modules):
            share = math.nan if module.expert is not None else shares.get(owner.get(column, -1), math.nan)
            if module.expert is not None:
                against[column] = "the inputs of experts that are held in one tensor are not looked at"
            elif column not in owner:
                against.setdefault(column, "it is not called with tokens")
            elif module.in_features <= RANK:
                against.setdefault(column, f"{RANK} directions explain all of its {module.in_features} inputs")
            elif math.isnan(share):
                against.setdefault(
                    column, "its inputs are too few, all the same, not finite, or too large or small to be squared"
                )
            if column in against:
                left_out.append(Skipped(module.name, against[column]))
            else:
                values.append(ModuleValue(module.name, module.type, share))
        seconds = self._seconds + time.perf_counter() - started
        return METHODS["eva"].opinion(values, left_out, seconds=seconds, settings={"rank": RANK, "every": EVERY})

    def _share(self, column: int, group: Group) -> float:
        """NaN where there are no more tokens than directions: those would explain all, whatever the inputs."""
        own = self._sketches.get(column)
        states: list[State] = [state for state in group.gather(own and own.state()) if state is not None]
        if sum(state.tokens for state in states) <= RANK + 1:
            return math.nan
        return explained(states, RANK)

    def _hook(self, column: int) -> ForwardHook:
        def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            z = args[0] if args else next(iter(kwargs.values()))
            if column not in self._against:
                started = time.perf_counter()
                self._add(column, z)
                self._seconds += time.perf_counter() - started

        return add

    def _add(self, column: int, z: Tensor) -> None:
        """The first module that is given a tensor is the one to look at it."""
        same = self._last and self._last[0]() is z and self._last[1] == z._version
        owner = self._last[2] if self._last and same else column
        if self._owner.setdefault(column, owner) != owner:
            self._against[column] = "it is not always given the same tensor as the modules beside it"
            return
        if owner != column:
            return
        self._last = (weakref.ref(z), z._version, column)
        if (at := self._tokens.among(z.shape[:-1])) is None:
            self._against[column] = "it is not called with one input per token"
            return
        known = self._pending.get(column) or self._sketches.get(column) or Sketch.of(z.shape[-1], z.device)
        self._pending[column] = known.after(z.flatten(0, -2).index_select(0, at.to(z.device)))


class _Blocks:
    """ShortGPT's block influence: one minus the cosine of a token's hidden states in front of a block and behind it."""

    def __init__(self, model: nn.Module, modules: Sequence[LinearModule]) -> None:
        names = dict.fromkeys(filter(None, (block_of(module.name) for module in modules)))
        self._blocks = {name: model.get_submodule(name) for name in names}
        self._totals: dict[str, Tensor] = {}
        self._pending: dict[str, Tensor] = {}
        self._against: dict[str, str] = {}
        self._seconds = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        versions: dict[str, int] = {}
        with ExitStack() as stack:
            for name, block in self._blocks.items():
                before, after = self._hooks(name, versions)
                stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(after, with_kwargs=True).remove)
            yield

    def begin(self, tokens: _Tokens) -> None:
        self._tokens, self._pending = tokens, {}

    def end(self) -> None:
        for name, sums in self._pending.items():
            self._totals[name] = self._totals[name] + sums if name in self._totals else sums

    def opinion(self, group: Group) -> Opinion:
        against = {name: why for each in group.gather(self._against) for name, why in each.items()}
        own = {name: total.tolist() for name, total in self._totals.items()}
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        gathered = group.gather(own)
        for each in gathered:
            for name, (distance, tokens) in each.items():
                sums[name] = [sums[name][0] + distance, sums[name][1] + tokens]
        values, left_out = [], []
        for name in self._blocks:
            distance, tokens = sums[name]
            if name not in against and not tokens:
                called = any(each.get(name) for each in gathered)
                against[name] = "its hidden states are zero" if called else "it is not called with tokens"
            elif name not in against and not math.isfinite(distance):
                against[name] = "its hidden states are not finite"
            if name in against:
                left_out.append(Skipped(name, against[name]))
            else:
                values.append(ModuleValue(name, "", max(0.0, distance / tokens)))  # rounding, of one that does nothing
        if not self._blocks:
            left_out.append(Skipped("the model", "no layer of it can be told from the others"))
        return METHODS["influence"].opinion(values, left_out, seconds=self._seconds)

    def _hooks(self, name: str, versions: dict[str, int]) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = _hidden(args, kwargs)
            versions[name] = -1 if x is None else x._version

        def after(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if name not in self._against:
                started = time.perf_counter()
                self._add(name, _hidden(args, kwargs), output, versions[name])
                self._seconds += time.perf_counter() - started

        return before, after

    def _add(self, name: str, x: Tensor | None, output: Any, version: int) -> None:
        y = output[0] if isinstance(output, tuple) and output else output
        if x is None or not isinstance(y, Tensor) or x.shape != y.shape or y.device != x.device:
            self._against[name] = "it does not take hidden states and give them back"
        elif x._version != version:
            self._against[name] = "it changes the hidden states that it is given in place"
        elif (at := self._tokens.among(x.shape[:-1])) is None:
            self._against[name] = "its hidden states are not one per token"
        else:
            x, y = x.float(), y.float()
            norms = (torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)).flatten()
            norms, products = (each[at.to(x.device)] for each in (norms, torch.linalg.vecdot(x, y).flatten()))
            counted = norms != 0  # NaN stays, to be found
            sums = torch.stack([torch.where(counted, 1 - products / norms, 0).sum(), counted.sum()]).double()
            self._pending[name] = self._pending[name] + sums if name in self._pending else sums


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    x = args[0] if args else kwargs.get("hidden_states")
    return x if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1 else None
