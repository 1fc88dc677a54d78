"""What is answered from the registry, and what begins at once: whole processes, medians, against `plop --version`.

    python benchmarks/instant.py [--repeats 5] [--gguf FILE] [--only-gguf]

The demo model is scored once, on a built-in sample and on a file. The mixture of experts is made up: a stored run and
the anatomy of a model of 48 layers and 64 experts a layer. A GGUF, by default the demo's, is loaded in float32 in turn
with the same weights from float32 safetensors, each in a process of its own that tells how far its memory rose.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from plop_cli.models.source import identify
from plop_registry import Anatomy, ModuleScore, Registry, Run, SampleMatrix, Shape, TypeScore

PLOP = [sys.executable, "-m", "plop_cli"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ATTENTION, EXPERT = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
LAYERS, EXPERTS, TEXTS = 48, 64, 16


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - started


def first_bytes(command: list[str]) -> float:
    """Seconds until a command writes anything onto a terminal."""
    started = time.perf_counter()
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe(command[0], command, {**ENVIRONMENT, "TERM": "xterm"})
    os.read(terminal, 1)
    waited = time.perf_counter() - started
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:  # the process has ended
        pass
    os.waitpid(pid, 0)
    os.close(terminal)
    return waited


def store_experts(registry: Registry, folder: Path) -> str:
    """Store the run and the anatomy of a large mixture of experts, as if it lay in `folder`; the run's id."""
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_moe"}))
    save_file({"x": np.zeros(1, np.float32)}, folder / "model.safetensors")
    linear = [
        Shape(f"model.layers.{layer}.{part}.{name}", name, 2048, 2048)
        for layer in range(LAYERS)
        for part, names in [("self_attn", ATTENTION), *((f"mlp.experts.{e}", EXPERT) for e in range(EXPERTS))]
        for name in names
    ]
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (TEXTS, len(linear)))
    means = {name: 0.6 + 0.2 * place for place, name in enumerate((*ATTENTION, *EXPERT))}
    sums = counts * np.array([means[shape.type] for shape in linear]) * rng.uniform(0.9, 1.1, counts.shape)
    matrix = SampleMatrix(np.arange(TEXTS, dtype=np.uint64), sums, sums, counts)
    nfn = matrix.sums.sum(axis=0) / counts.sum(axis=0)
    modules = tuple(
        ModuleScore(
            shape.name, shape.type, i * LAYERS // len(linear), 2048, 2048, float(nfn[i]), float(nfn[i]), 0.01, 9
        )
        for i, shape in enumerate(linear)
    )
    kinds = {name: [module.nfn for module in modules if module.type == name] for name in means}
    run = Run(
        key="experts",
        created_at=datetime.now(UTC),
        model_id=folder.name,
        model_revision=identify(str(folder)).revision,
        architecture="Qwen3MoeForCausalLM",
        dtype="float32",
        task_id="sample/math",
        task_revision="1",
        texts_hash="1",
        samples=TEXTS,
        tokens=9,
        settings={"samples": TEXTS, "seed": 0},
        plop_version="0.1.0",
        confidence=0.99,
        types=tuple(TypeScore(n, len(x), float(np.mean(x)), 1.0, 0.01, n in EXPERT, 0.9) for n, x in kinds.items()),
        modules=modules,
    )
    names = tuple(shape.name for shape in linear)
    anatomy = Anatomy(run.architecture, names, tuple(linear), 2048**2 * len(linear), ATTENTION[:3], EXPERT)
    registry.keep_anatomy(run.model_revision, version("transformers"), anatomy)
    return registry.add(run, matrix).id


LOADED = """
import gc, json, re, sys, time
from plop_cli.models.loading import load
from plop_cli.models.memory import trim
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
def memory(what):
    return int(re.search(what + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
source, before, started = identify(sys.argv[1]), memory("VmRSS"), time.perf_counter()
model, tokenizer = load(source, Loading(dtype=sys.argv[2], device="cpu"))
seconds, peak = time.perf_counter() - started, memory("VmHWM") - before
if len(sys.argv) > 3:
    model.hf_quantizer = None  # what was dequantized is saved like any other model
    del model.config.quantization_config
    model.save_pretrained(sys.argv[3])
    tokenizer.save_pretrained(sys.argv[3])
weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
del model
gc.collect()
trim()
print(json.dumps([seconds, peak / weights, (memory("VmRSS") - before) / 1e6, weights / 1e6]))
"""


def loaded(*arguments: str) -> list[float]:
    """Seconds that loading takes, how far memory rises over the weights, the MB that stay without them, and theirs."""
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    return [float(number) for number in json.loads(done.stdout)]


def gguf(file: str, folder: str, repeats: int) -> None:
    """Print how a GGUF loads."""
    loaded(file, "float32", folder)
    turns = [(loaded(file, "float32"), loaded(folder, "float32")) for _ in range(repeats)]
    ratio = statistics.median(ours[0] / plain[0] for ours, plain in turns)
    print(f"{Path(file).name} in float32 loads in {ratio:.2f} × the time of its safetensors, which are mapped")
    for dtype in ("float32", "bfloat16"):
        _, peak, stays, weights = loaded(file, dtype)
        print(
            f"{dtype}: memory rises by {peak:.2f} × the weights ({weights:.0f} MB), "
            f"{peak - stays / weights:.2f} without the {stays:.0f} MB of code and tokenizer that stay"
        )


def commands(folder: Path, repeats: int) -> None:
    """Print what commands take, stored and not."""
    common, texts = ["--registry", str(folder / "registry.db")], folder / "texts.jsonl"
    lines = (json.dumps({"text": f"text {number}, of some words about {7 * number} things"}) for number in range(99))
    texts.write_text("\n".join(lines))
    math, file = ["demo", "--task", "sample/math"], ["demo", "--task", str(texts), "-n", "16"]
    fresh = ["recommend", *math, "--registry", str(folder / "fresh.db")]
    new = []
    for _ in range(min(repeats, 3)):
        (folder / "fresh.db").unlink(missing_ok=True)
        new.append(seconds([*PLOP, *fresh]))
    seconds([*PLOP, "score", *file, *common])
    seconds([*PLOP, "recommend", *math, *common])
    (folder / "experts").mkdir()
    with Registry(folder / "registry.db") as registry:
        run = store_experts(registry, folder / "experts")
    ways = {
        "plop --version": ["--version"],
        "recommend, a stored run of 210 modules": ["recommend", *math, *common],
        f"recommend, {LAYERS} layers × {EXPERTS} experts": [
            "recommend",
            str(folder / "experts"),
            "--run",
            run,
            *common,
        ],
        "score FILE.jsonl, stored": ["score", *file, *common],
        "score sample/math, stored": ["score", *math, "--until-decided", *common],
    }
    turns = [{name: seconds([*PLOP, *words]) for name, words in ways.items()} for _ in range(repeats)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in ways}
    medians["recommend demo, nothing stored"] = statistics.median(new)
    waits = [
        first_bytes([*PLOP, *words]) for words in (fresh, ways["score FILE.jsonl, stored"]) for _ in range(repeats)
    ]
    medians["the first bytes on a terminal"] = statistics.median(waits)
    for name, median in medians.items():
        print(f"{name:42} {median:6.2f} s {median / medians['plop --version']:6.1f} × plop --version", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gguf", default="demo")
    parser.add_argument("--only-gguf", action="store_true", help="leave the commands out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not options.only_gguf:
            commands(Path(scratch), options.repeats)
        gguf(options.gguf, f"{scratch}/loaded", options.repeats)


if __name__ == "__main__":
    main()
