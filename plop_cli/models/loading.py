"""Weights and tokenizer of a ModelSource, through transformers. The only place that loads a model."""

from __future__ import annotations

import errno
import os
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from plop_cli.errors import PlopError, require
from plop_cli.models import checkpoint, quantization
from plop_cli.models.device_map import device_map, trim_between_layers
from plop_cli.models.gguf import read_once
from plop_cli.models.gguf_file import metadata_of
from plop_cli.models.options import Loading
from plop_cli.models.pretrained import MOST_MODULES, pretrained, with_adapter, without_weights
from plop_cli.models.scratch import Scratch, remove_left
from plop_cli.models.source import ModelSource
from plop_cli.network.body import body
from plop_cli.network.randomness import same_randomness
from plop_cli.progress import says
from plop_cli.quiet import quiet_transformers

_NO_ADAPTER = {"adapter_kwargs": {"subfolder": "no-adapter"}}
"""For from_pretrained, which would put an adapter that lies beside the weights into the model: plop merges it."""

_MANY_TIMES = 4
"""A head that the files lack, or a table that they leave out, makes less of a difference."""

_FULL = os.strerror(errno.ENOSPC)
"""What is said where a disk is full: safetensors has no number for it."""

_PACKED = 16
"""Weights that one element of a quantized file holds at most: of 2 bits, in 32."""


def load(source: ModelSource, loading: Loading) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The model, in evaluation mode and with its adapter merged, and its tokenizer.

    Args: `loading`, with a dtype and a device that are not "auto".

    Raises PlopError where the files are damaged or incomplete, where weights are pickled and that is not allowed, where
    the model needs code of its own and that is not trusted, and where a package for it is missing.
    """
    _check_loadable(source, loading)
    remove_left()
    folder, dtype = _folder(source), getattr(torch, loading.dtype)
    trusted, offline = loading.trust_remote_code, source.offline
    wanted = {"dtype": dtype, "use_safetensors": not source.pickled, **_NO_ADAPTER, **device_map(loading)}
    if loading.offload == "disk":  # for weights that cannot be read from the files as they are
        scratch = Scratch()
        wanted["offload_folder"] = str(scratch.folder)
    if source.load_in:
        wanted["quantization_config"] = quantization.config_for(source.load_in, dtype)
    _check_size(source, loading)
    says(f"loading {source}")
    with same_randomness(cuda=loading.device.startswith("cuda")), _clear_errors(source, dtype):
        place = _tokenizer_of(source, folder)
        gguf_file = source.gguf_file if place == folder else None
        tokenizer = pretrained(AutoTokenizer, place, trusted=trusted, gguf_file=gguf_file, local_files_only=offline)
        kind = _auto_class(folder, source, loading)
        model, report = pretrained(
            kind,
            folder,
            trusted=trusted,
            local_files_only=offline,
            most=_most(source),
            gguf_file=source.gguf_file,
            output_loading_info=True,
            **wanted,
        )
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):  # transformers makes one up, empty
        raise PlopError(f"{source} has no tokenizer; put the files of its base model's tokenizer into the folder")
    _check_complete(source, model, report["missing_keys"])
    if loading.offload == "disk":
        weakref.finalize(model, scratch.remove)
        trim_between_layers(model)
    for adapter in source.adapters:
        says(f"merging {adapter.name}")
        with same_randomness(), _clear_errors(source):
            model = _merged(model, adapter)
    return model.eval(), tokenizer


def _check_loadable(source: ModelSource, loading: Loading) -> None:
    """Raise PlopError for what is not allowed, not possible, or needs a package that is not here."""
    if source.pickled and not loading.allow_pickle:
        raise PlopError(
            f"the weights of {source} are pickled, and unpickling runs code; convert them to safetensors, "
            "or give --allow-pickle if you trust their author"
        )
    if loading.offload and (source.load_in or source.adapters):
        raise PlopError("--offload reads weights as they are in the files; leave out --load-in, and merge the adapter")
    if source.adapters:
        require("peft", f"the adapter {source.adapters[-1]}")
    if package := quantization.package_of(source.quantization):
        require(package, f"{source} in {source.quantization}")


def _check_size(source: ModelSource, loading: Loading) -> None:
    """Raise PlopError where the configuration describes far more than the files hold: all of it would be made first."""
    stored = source.elements.total()
    if source.gguf_file or loading.trust_remote_code or not stored:
        return
    model = skeleton(source, loading)
    described = sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    packed = 1 if source.load_in or not source.quantization else _PACKED
    if described > _MANY_TIMES * packed * stored:
        raise PlopError(
            f"the configuration of {source} describes {described:.3g} weights and its files hold {stored:.3g}; "
            "copy or download it again"
        )


def _tokenizer_of(source: ModelSource, folder: Path) -> Path:
    """Whose: the last adapter's that brings one (training may have changed the chat template), else the model's."""
    own = [adapter for adapter in source.adapters if (adapter / "tokenizer_config.json").is_file()]
    return own[-1] if own else folder


def _merged(model: torch.nn.Module, adapter: Path) -> torch.nn.Module:
    """The model with the adapter's weights added to its own; an error where one of them finds no place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        merged: torch.nn.Module = with_adapter(model, adapter).merge_and_unload()
    return merged


def skeleton(source: ModelSource, loading: Loading = Loading()) -> torch.nn.Module:
    """The model on the meta device: every module and shape, no weight."""
    folder = _folder(source, only_config=True)
    says(f"reading the configuration of {source}")
    with same_randomness(), _clear_errors(source):
        trusted = loading.trust_remote_code
        config = pretrained(
            AutoConfig, folder, trusted=trusted, gguf_file=source.gguf_file, local_files_only=source.offline
        )
        return without_weights(_auto_class(folder, source, loading), config, trusted=trusted, most=_most(source))


def _most(source: ModelSource) -> int:
    """How many modules it can have, at most: several for each tensor, and some that have none."""
    return min(MOST_MODULES, 10_000 + 20 * source.tensors) if source.tensors else MOST_MODULES


def _folder(source: ModelSource, *, only_config: bool = False) -> Path:
    if source.folder:
        return source.folder  # its files were looked at when it was found
    says(f"fetching {source}")
    from huggingface_hub import snapshot_download

    wanted = [f for f in source.files if not only_config or f.endswith((".json", ".py"))]
    # By label, not by commit: the cache then knows the label too, for the day when the hub cannot be reached.
    folder = Path(snapshot_download(source.id, revision=source.label, allow_patterns=wanted))
    if folder.name != source.revision:
        raise PlopError(f"{source} moved to another commit just now; run the command again")
    checkpoint.read_config(folder / "config.json")
    if not only_config and not source.pickled and not checkpoint.weights(folder):
        raise PlopError(f"{source} holds no model.safetensors; give a repository that transformers loads")
    return folder


def _auto_class(folder: Path, source: ModelSource, loading: Loading) -> Any:
    """The class that the checkpoint was saved from, so that its head is known for what it is."""
    if source.gguf_file:
        return AutoModelForCausalLM
    trusted = loading.trust_remote_code
    config = pretrained(AutoConfig, folder, trusted=trusted, local_files_only=source.offline)
    custom = getattr(config, "auto_map", None) or {}
    if loading.trust_remote_code and custom:
        return AutoModelForCausalLM if "AutoModelForCausalLM" in custom else AutoModel
    named = getattr(transformers, (config.architectures or [""])[0], None)
    return named or (AutoModelForCausalLM if type(config) in AutoModelForCausalLM._model_mapping else AutoModel)


@contextmanager
def _clear_errors(source: ModelSource, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Loading runs foreign parsers over foreign files: whatever they raise, this model cannot be loaded."""
    if source.gguf_file and source.folder:
        metadata_of(source.folder / source.gguf_file)  # says what is wrong with the file
    once = read_once(dtype) if source.gguf_file else nullcontext()
    try:
        with warnings.catch_warnings(), quiet_transformers(), once:
            warnings.simplefilter("ignore")
            yield
    except PlopError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise PlopError(f"{source} does not fit in memory; try --dtype bfloat16 or a machine with more") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason:
            raise PlopError(f"{source} needs code of its own; give --trust-remote-code if you trust it") from error
        if _FULL in reason:
            raise PlopError(
                f"no space is left in {tempfile.gettempdir()} for weights of {source} that must be written anew; "
                "free some, or let $TMPDIR name a folder with room"
            ) from error
        raise PlopError(
            f"{source} cannot be loaded ({reason[:300]}); check that its files are whole and that "
            f"transformers {transformers.__version__} knows the architecture"
        ) from error


def _check_complete(source: ModelSource, model: torch.nn.Module, missing: list[str]) -> None:
    """Weights that the checkpoint lacks are random, and so would be their scores; a head may lack, it is not run."""
    inside = {id(parameter) for parameter in body(model).parameters()}
    named = dict(model.named_parameters())
    lacking = [name for name in sorted(missing) if name in named and id(named[name]) in inside]
    if lacking:
        raise PlopError(
            f"{source} lacks {len(lacking)} of its weights (such as {lacking[0]}); copy or download it again"
        )
