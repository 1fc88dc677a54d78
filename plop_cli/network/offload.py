"""Where a model's weights lie, by accelerate's dispatch: on one device, split over GPUs, or partly in RAM or on disk.

Weights that were moved away are fetched for each forward of their module and dropped after it; outside of it they are
on the meta device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import align_module_device, convert_file_size_to_int
from torch import nn

from plop_cli.errors import PlopError
from plop_cli.models.devices import available_memory
from plop_cli.models.memory import trim
from plop_cli.processes import size

SHARE = 0.8
"""Of the free memory, what weights may take by default; activations need the rest."""


def placement(
    device: str, *, offload: str | None = None, max_memory: str | None = None, split: bool = False
) -> dict[str, Any]:
    """What from_pretrained is to be given so that the weights lie on `device`, as far as they fit.

    Args:
        offload: where the rest goes, "cpu" or "disk"; None where there is to be no rest.
        max_memory: what weights may take on each device, such as "2GB"; default: most of what is free.
        split: over all GPUs (`--device-map auto`) rather than on one.

    Raises PlopError where that makes no sense here.
    """
    limit = None if max_memory is None else _bytes(max_memory)
    gpus = list(range(torch.cuda.device_count()))
    if split and size() > 1:
        raise PlopError("--device-map auto gives all GPUs to one process; leave out torchrun, or --device-map")
    if split and not gpus:
        raise PlopError("--device-map auto splits a model over GPUs and there are none; --offload disk needs none")
    if not split and offload is None:
        if limit is not None:
            raise PlopError("--max-memory needs to know where the rest goes; give --offload disk or --offload cpu")
        return {"device_map": {"": device}}
    if device == "mps":
        raise PlopError("--offload is for CUDA and the CPU; give --device cpu")
    if offload == "cpu" and device == "cpu":
        raise PlopError("the weights are on the CPU already; to go beyond its memory, give --offload disk")
    mine = gpus if split else ["cpu" if device == "cpu" else torch.device(device).index or 0]
    room: dict[int | str, float] = {place: _free(place) * SHARE if limit is None else limit for place in mine}
    if device != "cpu":
        room["cpu"] = available_memory() * SHARE if offload == "cpu" else 0
    room["disk"] = math.inf if offload == "disk" else 0
    return {"device_map": "balanced" if split and limit is None else "sequential", "max_memory": room}


def trim_between_layers(model: Any) -> None:
    """Give what a layer's fetched weights took back to the system after each layer.

    glibc would keep it, in pieces between the activations: with SmolLM2, 180 MB after one pass and more after the next.
    """
    for name, place in model.hf_device_map.items():
        if place == "disk":
            model.get_submodule(name).register_forward_hook(lambda *_: trim())


def is_offloaded(module: nn.Module) -> bool:
    """Whether some weight of `module` is out of its device's memory."""
    return any(parameter.is_meta for parameter in module.parameters())


def execution_device(module: nn.Module) -> torch.device:
    """Where the products of a linear module are computed, whether or not its weight is there now."""
    hook = getattr(module, "_hf_hook", None)
    where = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if where is None else torch.device(where)


@contextmanager
def fetched(linear: nn.Module) -> Iterator[Any]:
    """A linear module with its weight in memory: yields its forward, (..., in) → (..., out).

    Below accelerate's hook, which would fetch the weight anew for every call and drop it after.
    """
    with align_module_device(linear):
        yield getattr(linear, "_old_forward", linear)


def _free(place: int | str) -> int:
    return available_memory() if place == "cpu" else torch.cuda.mem_get_info(place)[0]


def _bytes(size: str) -> int:
    try:
        return int(convert_file_size_to_int(size))
    except ValueError as error:
        raise PlopError(f"--max-memory {size!r} is no size; give one such as 2GB or 500MB") from error
