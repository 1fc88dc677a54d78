"""Where a model runs, in which dtype, and what fits there. torch is imported only where an accelerator could be."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from plop_cli.errors import PlopError
from plop_cli.models.memory import available_memory
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource


def resolve_device(device: str) -> str:
    """`auto` is CUDA, else MPS, else the CPU. torch is imported only where an accelerator could be.

    Raises PlopError for a device that is not here.
    """
    if device == "cpu" or (device == "auto" and not accelerator_possible()):
        return "cpu"
    import torch

    here = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    here += ["mps"] if torch.backends.mps.is_available() else []
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else here[0] if here else "cpu"
    if device not in (*here, *(["cuda"] if here and here[0] == "cuda:0" else [])):
        raise PlopError(f"no device {device!r} here; there is {', '.join(['cpu', *here])} (or --device auto)")
    return device


def accelerator_possible() -> bool:
    """Whether torch could find a GPU: on Linux, whether a driver shows one (NVIDIA, AMD, WSL)."""
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    return sys.platform != "linux" or any(Path(driver).exists() for driver in drivers)


def resolve_dtype(loading: Loading, source: ModelSource) -> tuple[Loading, str | None]:
    """The loading with what `--dtype auto` means here, and a note where that needs saying.

    bfloat16 on CUDA; elsewhere float32, unless its 4 bytes a weight do not fit in memory: then the checkpoint's own.
    Weights that stay quantized or out of memory need no such room.
    """
    if loading.dtype != "auto":
        return loading, None
    if loading.device.startswith("cuda"):
        return replace(loading, dtype="bfloat16"), None
    float32 = replace(loading, dtype="float32")
    if loading.offload or (source.quantization and not source.gguf_file):
        return float32, None
    needed, free = 4 * source.elements.total(), available_memory()
    stored = {"BF16": "bfloat16", "F16": "float16"}
    own = stored.get(max(source.elements, key=source.elements.__getitem__, default="F32"), "float32")
    if needed <= free or own == "float32":
        return float32, None
    return (
        replace(loading, dtype=own),
        f"{source} would take {needed / 1e9:.1f} GB in float32 and {free / 1e9:.1f} GB are free: using its {own}",
    )
