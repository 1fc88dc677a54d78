"""What the experiments train and score: the model, and pairs of questions and answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.shared.program import Results
from plop_cli import PlopError
from plop_cli.models.devices import resolve_device
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import DEMO, identify
from plop_cli.texts.readers import rows_of_file, rows_of_hub

Pair = dict[str, str]
"""A `question` and its `answer`."""


def load_model(name: str = DEMO, dtype: str = "float32") -> tuple[Any, Any]:
    """A causal language model and its tokenizer, on the GPU where there is one, in evaluation mode."""
    model: Any
    model, tokenizer = load(identify(name), Loading(dtype=dtype, device=resolve_device("auto")))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    # A CPU multiplies a strided view, as generation cuts off the last states, 200 times as slowly in bfloat16.
    model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
    if name == DEMO or name.endswith(".gguf"):
        # A GGUF file is quantized, the weights in memory are not; a Trainer would refuse them, and so would saving.
        model.is_quantized, model.hf_quantizer = False, None
        del model.config.quantization_config
    return model, tokenizer


def training_dtype() -> str:
    """bfloat16 where it is multiplied in hardware; a CPU that emulates it takes fifty times as long as in float32."""
    fast = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if fast else "float32"


def called(results: Results) -> str:
    """The model's name."""
    model = str(results.get("model", DEMO))
    return "SmolLM2-135M-Instruct" if model == DEMO else model.removesuffix(".gguf")


def pairs_of(results: Results) -> str:
    """Where the pairs are from."""
    files: list[str] = results["data"]
    return "GSM8K" if all("gsm8k" in file.lower() for file in files) else ", ".join(files)


def gsm8k(split: str, data: Sequence[Path] = ()) -> list[Pair]:
    """The pairs of a split, "train" or "test": of the files given, else of the hub."""
    return rows(split, data, ("question", "answer"), hub=("openai/gsm8k", "main", split))


def rows(
    split: str, data: Sequence[Path], columns: Sequence[str], *, hub: tuple[str, str | None, str]
) -> list[dict[str, Any]]:
    """The rows of "train" or "test": of the files given, else of the hub's data set, configuration and split.

    The first file is for training, the last for testing; of a single file, the last fifth.

    Raises PlopError where they cannot be read, or a column is not there.
    """
    if data:
        source = str(data[0] if split == "train" else data[-1])
        every = [dict(row) for row in rows_of_file(Path(source))]
        if len(data) == 1:
            cut = len(every) * 4 // 5
            every = every[:cut] if split == "train" else every[cut:]
    else:
        source, every = hub[0], [dict(row) for row in rows_of_hub(*hub)[0]]
    needed(len(every), 1, f"rows of {source}")
    if missing := [column for column in columns if column not in every[0]]:
        raise PlopError(f"{source} has no {' and no '.join(missing)}; there are {', '.join(every[0])}")
    return every


def needed(have: int, need: int, what: str) -> None:
    """Raises PlopError where there are too few."""
    if have < need:
        raise PlopError(f"{what}: {have}, and {need} are needed; give more --data, or another --set")


def last_number(text: str) -> str:
    """The last number in a text, without its commas; empty where there is none."""
    numbers: list[str] = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return numbers[-1].replace(",", "") if numbers else ""
