"""A model's repository on the hub: which of its files make the model, and what of it is in the cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from plop_cli import hub
from plop_cli.models.checkpoint import KEPT, RARE


def files_of(listing: Sequence[str]) -> tuple[list[str], bool]:
    """The files to fetch, and whether the weights among them are pickled; no files where there are no weights."""
    names = [file for file in listing if "/" not in file]
    weights = [file for file in names if file.endswith(".safetensors")]
    pickles = [file for file in names if re.fullmatch(r"pytorch_model.*\.bin(\.index\.json)?", file)]
    if not weights and not pickles:
        return [], False
    templates = [file for file in listing if re.fullmatch(r"additional_chat_templates/[^/]*\.jinja", file)]
    files = [file for file in names if file.endswith((*KEPT, *RARE))]
    return files + ([] if weights else pickles) + templates, not weights


def commit(name: str) -> str:
    """The newest commit, or without the hub the cached one."""
    if (info := hub.ask(name, None, "model")) is not None:
        return str(info.sha)
    return cached(name, None).name


def cached(name: str, revision: str | None) -> Path:
    """The snapshot that an earlier run left; PlopError where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise hub.unreachable(f"model {name!r}") from error
