"""What every method that looks at weights alone says of a model in memory, layer by layer.

    opinions = of_weights(model)
    opinions["kappa"].values

Few matrices at a time are in float64: weights may lie on a GPU, in main memory or on a disk. What has no readable
weight (quantized layers), or a forward of its own, is asked for its columns: unit vectors come out as them. No text is
read, so inputs are taken to be of the size that a norm in front of a layer makes them: √features.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plop_cli.errors import PlopError
from plop_cli.method.nfn import unit_probes
from plop_cli.network import experts, own_forward
from plop_cli.network.adapters import has_adapters
from plop_cli.network.body import uncompiled
from plop_cli.network.hooks import evaluating
from plop_cli.network.modules import LinearModule, linear_modules
from plop_cli.network.offload import fetched, is_offloaded
from plop_cli.opinions.measures import Matrix, Spectrum, Unsaid, of_spectrum
from plop_cli.opinions.methods import ADAPTED, METHODS, OF_WEIGHTS
from plop_cli.opinions.spectra import eps_of, singular_values
from plop_cli.progress import says
from plop_registry import ModuleValue, Opinion, Skipped

LARGEST = 16_384
"""Of the smaller side of a matrix, of whose singular values nobody waits the end (PEFT stops at a side as large)."""

_Seen = tuple[Spectrum, Matrix]
"""Singular values, and what they are of."""

_WORKERS = 4
"""Matrices that are looked at at the same time: each takes the memory of its copy in float64."""

_UNREADABLE = "its weight cannot be read"


def of_weights(model: nn.Module) -> dict[str, Opinion]:
    """By method, what is to say of each linear module of the body; of each expert where they are stacked.

    `seconds` of each are those of the singular values, which all of them share, and its own.

    Raises PlopError where no weight is in memory or can be read, there is none to look at, or it is under an adapter.
    """
    if has_adapters(model):
        raise PlopError(ADAPTED)
    model = uncompiled(model)
    with evaluating(model):
        return _of_weights(model)


def _of_weights(model: nn.Module) -> dict[str, Opinion]:
    modules, skipped = linear_modules(model)
    stacks = [each for each in skipped if experts.stacked(model.get_submodule(each.name))]
    _check_there(modules)
    values: dict[str, list[ModuleValue]] = {key: [] for key in OF_WEIGHTS}
    left_out: dict[str, list[Skipped]] = {key: list(stacks) for key in OF_WEIGHTS}
    took = dict.fromkeys(OF_WEIGHTS, 0.0)
    shared, started = 0.0, time.perf_counter()
    for number, (module, found) in enumerate(_spectra(modules), 1):
        says("taking singular values", number, len(modules), "modules")
        shared += time.perf_counter() - started
        for key in OF_WEIGHTS:
            started = time.perf_counter()
            try:
                if isinstance(found, str):
                    raise Unsaid(found)
                value = of_spectrum(key, *found)
                values[key].append(ModuleValue(module.name, module.type, value))
            except Unsaid as reason:
                left_out[key].append(Skipped(module.name, str(reason)))
            took[key] += time.perf_counter() - started
        started = time.perf_counter()
    if all(each.reason.startswith(_UNREADABLE) for each in left_out["stable-rank"]) and not values["stable-rank"]:
        raise PlopError(f"no weight of the model can be looked at: {left_out['stable-rank'][0].reason}")
    return {
        key: METHODS[key].opinion(values[key], left_out[key], seconds=shared + took[key], settings=_settings(model))
        for key in OF_WEIGHTS
    }


def _settings(model: nn.Module) -> dict[str, Any]:
    return {"dtype": str(getattr(model, "dtype", "")).removeprefix("torch."), "architecture": type(model).__name__}


def _check_there(modules: list[LinearModule]) -> None:
    if not modules:
        raise PlopError("the model has no linear module in its body to look at")
    hooked = any(hasattr(module.module, "_hf_hook") for module in modules)
    if not hooked and all(is_offloaded(module.module) for module in modules):
        raise PlopError("the model's weights are not in memory (meta device); load them with from_pretrained")


def _spectra(modules: list[LinearModule]) -> Iterator[tuple[LinearModule, _Seen | str]]:
    """Of each module its singular values, or why it has none. The weights of a module are fetched once.

    A few matrices at a time, each on its share of the cores: LAPACK makes poor use of several for one of this size.
    """
    threads = torch.get_num_threads()
    workers = min(_WORKERS, threads)
    waiting: deque[tuple[LinearModule, Future[_Seen] | str]] = deque()
    share = max(1, threads // workers)
    with ThreadPoolExecutor(workers) as pool, _numpy_on(share):
        torch.set_num_threads(share)
        try:
            for module, W in _matrices(modules):
                waiting.append((module, W if isinstance(W, str) else pool.submit(_look, W)))
                if len(waiting) > workers:
                    yield _done(*waiting.popleft())
            while waiting:
                yield _done(*waiting.popleft())
        finally:
            torch.set_num_threads(threads)


def _numpy_on(threads: int) -> AbstractContextManager[Any]:
    """Inside, NumPy's BLAS takes so many threads."""
    known = set(os.environ)
    from threadpoolctl import threadpool_limits

    for name in set(os.environ) - known:  # set as it is imported, for programs that mix OpenMP runtimes
        del os.environ[name]
    limits: AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
    return limits


def _done(module: LinearModule, found: Future[_Seen] | str) -> tuple[LinearModule, _Seen | str]:
    return module, found if isinstance(found, str) else found.result()


def _look(W: Tensor) -> _Seen:
    return singular_values(W).numpy(), Matrix(W.shape[0], W.shape[1], eps_of(W))


def _matrices(modules: list[LinearModule]) -> Iterator[tuple[LinearModule, Tensor | str]]:
    for _, group in groupby(modules, key=lambda module: id(module.module)):
        own = list(group)
        with fetched(own[0].module) as forward:
            for module in own:
                yield module, _readable(module, forward)


def _readable(module: LinearModule, forward: Any) -> Tensor | str:
    """W, or why it has no singular values."""
    if min(module.in_features, module.out_features) > LARGEST:
        return f"both of its sides are over {LARGEST:,}: its singular values would take too long"
    try:
        W = _matrix(module, forward)
    except (MemoryError, torch.OutOfMemoryError):  # another time it can
        raise
    except Unsaid as reason:
        return str(reason)
    except Exception as failure:  # noqa: BLE001  # foreign code, on what it may not have been written for
        why = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
        return f"{_UNREADABLE} ({why})"
    if W.is_meta:
        return "its weight is not in memory"
    if not W.isfinite().all():
        return "its weight has NaN or infinity"
    return W if W.any() else "all of its weights are zero"


def _matrix(module: LinearModule, forward: Any) -> Tensor:
    """W, (out, in)."""
    linear: Any = module.module
    if module.expert is not None:
        return experts.matrices(linear, module.parameter)[module.expert]
    if "weight" in vars(linear):  # no parameter: a hook sets it anew before each forward (weight_norm)
        linear(torch.zeros(1, module.in_features, dtype=linear.weight.dtype, device=linear.weight.device))
    weight: Tensor = linear.get_parameter("weight") if "weight" in linear._parameters else linear.weight
    readable = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point() and weight.itemsize > 1
    plain = own_forward.is_plain(linear)
    if readable and plain:
        return weight.mT if isinstance(linear, Conv1D) else weight
    # Not off a dequantized copy: bitsandbytes repacks weights in their first forward on some CPUs.
    dtype = next((p.dtype for p in (linear.bias, weight) if p is not None and p.dtype.itemsize > 1), torch.float32)
    u, size = unit_probes(module.in_features, seed=0).to(weight.device, dtype), math.sqrt(module.in_features)
    _, W = own_forward.without_bias(linear, linear if linear._forward_hooks else forward, u)
    large = own_forward.sized(W, size)
    if not plain and not own_forward.is_linear(large, u, large(u)):
        raise Unsaid(own_forward.NOT_LINEAR)
    return torch.cat([columns.float() for columns in own_forward.columns(W, u, size)]).mT
