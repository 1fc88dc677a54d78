"""A model's folder: which of its files loading reads, and what its JSON files are allowed to say.

Nothing here runs code or takes more memory than the files are large: what a file demands (a billion layers, a shard
elsewhere) is looked at before anybody acts on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError

KEPT = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
"""How the names of the files end that make a model what it is: weights, configurations, tokenizer, code."""

RARE = (".spm", ".codes", ".tokenizer")
"""And of those that few tokenizers have."""

_TRAINING_STATE = {"trainer_state.json", "generation_config.json"} | {
    f"{split}_results.json" for split in ("all", "train", "eval", "test")
}

_LARGEST_JSON = 100 << 20
"""Bytes: what a configuration or an index may take; the index of 10⁵ tensors takes a tenth."""

_COUNT = re.compile(r"(^|_)(layers?|blocks?|depths?|experts?|heads?|stages?|levels?|groups?|repeats?|labels|classes)$")
"""The settings that say how many of something a model has, by their last word."""
_MOST = 10**5


def kept(folder: Path) -> list[Path]:
    """The files in the folder itself that make a model what it is, by name."""
    files = sorted(folder.iterdir())
    return [f for f in files if f.is_file() and f.suffix in KEPT and f.name not in _TRAINING_STATE]


def beside(folder: Path, weights: list[Path], *, trusted: bool) -> list[Path]:
    """What loading reads besides `kept`: weights and chat templates in subfolders, and code if it is `trusted`."""
    files = {*weights, *(folder / "additional_chat_templates").glob("*.jinja")}
    files |= {file for file in folder.iterdir() if file.suffix in RARE and file.is_file()}
    if trusted:
        files |= set(folder.glob("*/**/*.py"))
    return sorted(files - set(kept(folder)))


def weights(folder: Path) -> list[Path]:
    """The files that the model's weights are read from: safetensors where there are any, else pickles; empty for none.

    Raises PlopError where an index or config.json names a file that is not one of these, or not in the folder.
    """
    named = read_config(folder / "config.json").get("transformers_weights")
    if named is not None:
        if not isinstance(named, str) or not named.endswith((".safetensors", ".safetensors.index.json")):
            raise PlopError(f"config.json in {folder} names weights that are no safetensors; do not trust it")
        return _files(folder, named, ".safetensors")
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            return _files(folder, name, ".safetensors")
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
        if (folder / name).is_file():
            return _files(folder, name, ".bin")
    return []


def _files(folder: Path, name: str, ending: str) -> list[Path]:
    """The file itself, which may be a link to anywhere, or, of an index, its targets, which may not."""
    if not name.endswith(".index.json"):
        return [_inside(folder, name, "config.json")] if "/" in name else [folder / name]
    shards = read_json(folder / name).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise PlopError(f"{folder / name} has no weight_map of tensors and files; copy or download the model again")
    files = [_inside(folder, shard, name) for shard in sorted(set(shards.values()))]
    for file in files:
        if file.suffix != ending:
            raise PlopError(f"{folder / name} names {file.name[:100]!r}, which is no {ending} file; do not trust it")
        if not file.is_file():
            raise PlopError(f"{folder} lacks {file.name[:100]!r}, which {name} names; copy or download the model again")
    return files


def _inside(folder: Path, name: str, of: str) -> Path:
    """The file `name` of the folder; PlopError where it lies elsewhere. The hub's cache links to its own blobs."""
    home, relative = folder.resolve(), Path(name)
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    try:
        real = (home / relative).resolve()
    except (ValueError, RuntimeError):  # a NUL, a loop of links
        real = Path("/")
    outside = relative.is_absolute() or ".." in relative.parts or "\\" in name
    if outside or not any(real.is_relative_to(place) for place in (home, blobs)):
        raise PlopError(f"{of} in {folder} names {name[:100]!r}, which lies outside of the folder; do not trust it")
    return folder / relative


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises PlopError where the file holds none, or one that is too large or too deep to be read."""
    if file.stat().st_size > _LARGEST_JSON:
        raise PlopError(f"{file} has {file.stat().st_size / 1e6:.0f} MB, too many for a configuration; copy it again")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise PlopError(f"{file} is not JSON ({error}); copy it again") from error
    except RecursionError as error:
        raise PlopError(f"{file} is nested too deeply for a configuration; copy it again") from error
    if not isinstance(content, dict):
        raise PlopError(f"{file} is no JSON object; copy it again")
    return content


def read_config(file: Path) -> dict[str, Any]:
    """A configuration; PlopError where it asks for more layers, experts or the like than any model has.

    transformers makes lists of them before it looks at a weight, so 10⁹ layers would take all memory.
    """
    content = read_json(file)
    for key, number in _numbers(content):
        check_count(file, key, number)
    return content


def check_count(file: Path, key: str, number: float) -> None:
    """Raise PlopError where the key counts something, and no model has so many."""
    if number > _MOST and _COUNT.search(key):
        raise PlopError(f"{file}: {key[:100]} is {number:.4g}, and no model has so many; copy it again")


def code_elsewhere(folder: Path) -> list[str]:
    """The repositories or folders that a folder's code comes from by its configurations (`auto_map`: `repo--file`)."""
    found = set()
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            named = read_json(folder / name).get("auto_map")
            found |= {text.partition("--")[0] for text in _texts(named) if "--" in text}
    return sorted(found)


def checkpoints(folder: Path) -> list[str]:
    """The names of a Trainer's checkpoints in the folder, in the order of their steps."""
    names = [place.name for place in folder.glob("checkpoint-*") if place.is_dir() and is_checkpoint(place.name)]
    return sorted(names, key=lambda name: (len(name), name))


def is_checkpoint(name: str) -> bool:
    """Whether a folder is called as the Trainer calls its checkpoints."""
    return re.fullmatch(r"checkpoint-\d+", name) is not None


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number with the name that it stands under, whatever lists and objects it is in."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key)
    elif isinstance(content, int | float):
        yield key, content


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _texts(value)
