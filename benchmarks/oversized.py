"""A model that is larger than the memory it may take: what is read of it, how long that takes, what it needs.

    python benchmarks/oversized.py [--layers N] [--max-memory 1GB] [--samples N] [--folder FOLDER] [--alone]

Writes a Llama of random weights in bfloat16 (134 MB a layer, 30 layers by default), decides on it from the disk and in
memory, each in a process of its own, and deletes it. The memory run is left out with --alone, for what does not fit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from plop_cli.models.pretrained import pretrained
from plop_cli.models.source import identify

HIDDEN, INNER, HEADS = 2048, 8192, 16
SAMPLE = Path(__file__).parent.parent / "plop_cli" / "texts" / "samples" / "math.jsonl"
ONE_RUN = """
import json, resource, sys, time
from plop_cli import score
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.network.offload import counted_reads
folder, texts, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
model, tokenizer = load(identify(folder), Loading(dtype="bfloat16", device="cpu", **options))
with counted_reads(model) as read:
    started, used = time.perf_counter(), time.process_time()
    scores = score(model, tokenizer, texts)
    seconds, used, fetched = time.perf_counter() - started, time.process_time() - used, read()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "cpu": used, "read": fetched, "peak": peak,
                  "nfn": [module.nfn for module in scores.modules]}))
"""


def write(folder: Path, layers: int) -> int:
    """A checkpoint with a file for each layer, which never is in memory as a whole; its bytes."""
    source = identify("demo")
    assert source.folder is not None
    tokenizer = pretrained(AutoTokenizer, source.folder, gguf_file=source.gguf_file, trusted=False)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in LlamaForCausalLM(config).named_parameters()}
    files: dict[str, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        number = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        files.setdefault(f"model-{number}.safetensors", {})[name] = shape
    generator, index = torch.Generator().manual_seed(0), {}
    for file, tensors in files.items():
        weights = {
            name: torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) == 1
            else torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
            for name, shape in tensors.items()
        }
        save_file(weights, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def one_run(folder: Path, texts: list[str], **options: str) -> dict[str, Any]:
    """What a fresh process took."""
    command = [sys.executable, "-c", ONE_RUN, str(folder), json.dumps(texts), json.dumps(options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def forget(folder: Path) -> None:
    """Have the system forget what it holds of the files, so that they are read from the disk."""
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--max-memory", default="1GB", help="for weights; default 1GB")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where there is room; default: the system's for temporary files")
    parser.add_argument("--alone", action="store_true", help="from the disk alone")
    asked = parser.parse_args()
    texts = [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()[: asked.samples]]
    folder = Path(tempfile.mkdtemp(prefix="oversized-", dir=asked.folder))
    try:
        started = time.perf_counter()
        size = write(folder, asked.layers)
        print(f"{asked.layers} layers, {size / 1e9:.1f} GB on disk, written in {time.perf_counter() - started:.0f} s")
        runs = {}
        if not asked.alone:
            runs["in memory"] = one_run(folder, texts)
        away = {"offload": "disk", "max_memory": asked.max_memory}
        runs["from the disk"] = one_run(folder, texts, **away)
        forget(folder)
        runs["files not cached"] = one_run(folder, texts, **away)
    finally:
        shutil.rmtree(folder)
    table = Table("run", "seconds", "CPU seconds", "peak memory", "read / checkpoint")
    for name, run in runs.items():
        share = f"{run['read'] / size:.3f}"
        table.add_row(name, f"{run['seconds']:.1f}", f"{run['cpu']:.1f}", f"{run['peak'] / 1e9:.2f} GB", share)
    Console().print(table)
    first, *others = runs.values()
    if others and not asked.alone:
        print(f"time against memory: {others[0]['seconds'] / first['seconds']:.2f}")
        print(f"largest difference of a score: {max(map(_apart, first['nfn'], others[0]['nfn'])):.1e}")


def _apart(one: float, other: float) -> float:
    return abs(one - other) / one


if __name__ == "__main__":
    main()
