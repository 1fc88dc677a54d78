"""How a model is to be found and loaded. Nothing is imported, since every command starts with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loading:
    """How a model is found and loaded: one value from the command line to `from_pretrained`.

    `dtype` is float32, bfloat16, float16 or auto; `device` is cpu, cuda, cuda:N, mps or auto. `revision` is a branch,
    tag or commit on the hub; `adapter` the folder of a PEFT adapter for the model; `load_in` "4bit" or "8bit"
    (bitsandbytes). `offload` says where weights go that do not fit ("cpu" or "disk"), `max_memory` what they may take
    on each device, such as "2GB"; `split` is over all GPUs.
    """

    dtype: str = "auto"
    device: str = "auto"
    revision: str | None = None
    adapter: str | None = None
    load_in: str | None = None
    offload: str | None = None
    max_memory: str | None = None
    split: bool = False
    trust_remote_code: bool = False
    allow_pickle: bool = False
