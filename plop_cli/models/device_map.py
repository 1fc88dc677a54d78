"""Where weights are to lie: on one device, split over GPUs, or partly in RAM or on disk (accelerate's `device_map`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate.utils import convert_file_size_to_int

from plop_cli.errors import PlopError
from plop_cli.models.memory import available_memory, trim
from plop_cli.models.options import Loading
from plop_cli.processes import size

SHARE = 0.8
"""Of the free memory, what weights may take by default; activations need the rest."""


def device_map(loading: Loading) -> dict[str, Any]:
    """What from_pretrained is to be given so that the weights lie on the device, as far as they fit.

    `loading.offload` says where the rest goes; weights take most of what is free, or `loading.max_memory`.

    Raises PlopError where that makes no sense here.
    """
    device, offload, split = loading.device, loading.offload, loading.split
    limit = None if loading.max_memory is None else _bytes(loading.max_memory)
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
    for name, place in getattr(model, "hf_device_map", {}).items():  # none where all of it fits
        if place == "disk":
            model.get_submodule(name).register_forward_hook(lambda *_: trim())


def _free(place: int | str) -> int:
    return available_memory() if place == "cpu" else torch.cuda.mem_get_info(place)[0]


def _bytes(size: str) -> int:
    try:
        return int(convert_file_size_to_int(size))
    except ValueError as error:
        raise PlopError(f"--max-memory {size!r} is no size; give one such as 2GB or 500MB") from error
