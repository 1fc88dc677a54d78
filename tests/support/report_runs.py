"""Runs for the report's tests: made of a seed, as coherent as scored ones, and like a Llama's in their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from plop_cli.method import estimates
from plop_cli.method.choice import PLOP, Samples, choose
from plop_cli.opinions.methods import METHODS
from plop_cli.report.page import render_html
from plop_cli.report.story import tell
from plop_registry import ModuleScore, ModuleValue, Registry, Run, SampleMatrix, Skipped, TypeScore
from races import made_race

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LLAMA = {
    "self_attn.v_proj": 0.6,
    "mlp.up_proj": 0.94,
    "mlp.down_proj": 1.04,
    "self_attn.o_proj": 1.17,
    "mlp.gate_proj": 1.26,
    "self_attn.q_proj": 1.38,
    "self_attn.k_proj": 1.56,
}
HOSTILE = """</script><script>alert(1)</script> "two" 'one' <b>&amp; {{ 7*7 }} | `x` \u202eRTL שלום 🦀"""
TASKS = ("math", "code", "history", "logic")


def store(
    registry: Registry,
    model: str = "org/llama",
    task: str = "math",
    *,
    label: str = "main",
    number: int = 0,
    layers: int = 4,
    samples: int = 12,
    moved: Mapping[str, float] | None = None,
    **fields: Any,
) -> Run:
    """Store a run. Args: `number`, minutes after START; `moved`, added to a type's NFN; `fields`, of the run."""
    names = [f"model.layers.{layer}.{part}" for layer in range(layers) for part in LLAMA]
    types = [name.rpartition(".")[2] for name in names]
    modules, texts = _random(f"{model} {label}"), _random(task)
    base = np.array(list(LLAMA.values()) * layers) + [(moved or {}).get(name, 0) for name in types]
    hashes, tokens = texts.integers(2**64, size=samples, dtype=np.uint64), texts.integers(40, 200, size=samples)
    noise = modules.normal(0, 0.1, len(names)) + texts.normal(0.02, 0.03, (samples, len(names)))
    counts = np.repeat(tokens[:, None], len(names), axis=1)
    nfn = base * np.exp(noise)
    matrix = SampleMatrix(hashes, nfn * counts, nfn**2 * counts, counts)

    sums, squares, counts = (array.astype(float) for array in (matrix.sums, matrix.squares, matrix.counts))
    means, means_squared = (estimates.module_means(array, counts) for array in (sums, squares))
    phi = estimates.influence(sums, counts)
    of_types, of_squares, errors = (estimates.by_type(array, types) for array in (means, means_squared, phi))
    choice = choose([Samples(sums, counts, types)], PLOP)
    run = Run(
        key=f"{number:064x}",
        created_at=START + timedelta(minutes=number),
        model_id=model,
        model_revision=hashlib.sha1(f"{model}{label}".encode()).hexdigest(),
        model_label=label,
        architecture="LlamaForCausalLM",
        dtype="float32",
        task_id=task,
        task_revision="fedcba9876543210",
        texts_hash="ab" * 32,
        samples=samples,
        tokens=int(tokens.sum()),
        settings={"samples": samples, "max_length": 256, "seed": 0, "dtype": "float32", "chat": False, "engine": 1},
        plop_version="0.1.0",
        versions={"python": "3.12.1", "torch": "2.8.0", "transformers": "5.1.0"},
        device="cpu",
        duration=4.2,
        confidence=choice.confidence,
        types=tuple(
            TypeScore(
                type=name,
                modules=layers,
                nfn=float(of_types[name]),
                nfn_squared=float(of_squares[name]),
                stderr=float(estimates.standard_error(errors[name][:, None])[0]),
                recommended=name in choice.chosen,
                confidence=choice.frequency[name],
            )
            for name in of_types
        ),
        modules=tuple(
            ModuleScore(name, kind, place // len(LLAMA), 64, 32, mean, squared, error, int(tokens.sum()))
            for place, (name, kind, mean, squared, error) in enumerate(
                zip(
                    names,
                    types,
                    means.tolist(),
                    means_squared.tolist(),
                    estimates.standard_error(phi).tolist(),
                    strict=True,
                )
            )
        ),
        skipped=(Skipped("model.embed_tokens", "an embedding looks rows up"), Skipped("lm_head", "the output head")),
    )
    return registry.add(replace(run, **fields), matrix)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def _one(registry: Registry) -> None:
    store(registry)


def _tasks(registry: Registry) -> None:
    for number, task in enumerate(TASKS):
        store(registry, task=task, number=number)


def _models(registry: Registry) -> None:
    for number, (model, moved) in enumerate({"org/general": 0.0, "org/math": 0.2, "org/code": -0.3}.items()):
        store(registry, model, number=number, moved={"o_proj": moved})


def _time(registry: Registry) -> None:
    for number, step in enumerate((1000, 200, 30)):  # scored last checkpoint first
        store(registry, "tuned", label=f"checkpoint-{step}", number=number, moved={"o_proj": -0.4 * step / 1000})


def _many(registry: Registry) -> None:
    for number in range(8):
        model, task = divmod(number, len(TASKS))
        store(registry, f"org/model-{model}", TASKS[task], number=number)
    store(registry, "org/model-0", "math", label="next", number=99)


def _hostile(registry: Registry) -> None:
    for number in range(2):
        names = {"model": f"m {HOSTILE}", "task": f"t {HOSTILE}", "label": f"l {number} {HOSTILE}"}
        store(registry, **names, number=number, device=f"d {HOSTILE}", warnings=(f"w {HOSTILE}",))
    store(registry, names["model"], "math", number=2)


def _raced(registry: Registry) -> None:
    _one(registry)
    draw = np.random.default_rng(0)
    hard = draw.normal(1.5, 0.4, (1, 40))
    losses = {name: hard + shift + draw.normal(0, 0.02, (3, 40)) for name, shift in (("PLoP", 0), ("MLP", 0.1))}
    registry.races.add(replace(made_race(losses), model_id=registry.runs()[0].model_id))


def _opinions(registry: Registry) -> None:
    """κ of all types, SNR without q_proj, and of the activations of two tasks both methods."""
    draw = np.random.default_rng(0)
    for number, task in enumerate(TASKS[:2]):
        run = store(registry, task=task, number=number)
        eva = [ModuleValue(module.name, module.type, float(draw.random())) for module in run.modules]
        blocks = [ModuleValue(f"model.layers.{layer}", "", 0.1 * (layer + 1)) for layer in range(4)]
        said = [METHODS["eva"].opinion(eva, seconds=1), METHODS["influence"].opinion(blocks, seconds=0.1)]
        registry.opinions.keep_of_run(run.id, said)
    values = [(m.name, m.type, 1 / m.nfn) for m in run.modules]
    kappa = [ModuleValue(*each) for each in values]
    snr = [each for each in kappa if each.type != "q_proj"]
    zero = [Skipped(each.name, "all of its weights are zero") for each in kappa if each.type == "q_proj"]
    said = [METHODS["kappa"].opinion(kappa, seconds=1), METHODS["snr"].opinion(snr, zero, seconds=1)]
    registry.opinions.keep_of_weights(run.model_revision, "float32", said)


CASES: dict[str, Callable[[Registry], None]] = {
    "one": _one,
    "tasks": _tasks,
    "models": _models,
    "time": _time,
    "many": _many,
    "hostile": _hostile,
    "race": _raced,
    "opinions": _opinions,
}
"""What a report can be of: one run; tasks of a model; models on a task; a model over time; all of these; and more."""


def page_of(registry: Registry, **options: Any) -> str:
    """The page of all runs."""
    return render_html(tell(registry.runs()[::-1], registry), written=START, command="plop report", **options)


@cache
def page(case: str) -> str:
    """The page of a case."""
    with TemporaryDirectory() as folder, Registry(Path(folder, "registry.db")) as registry:
        CASES[case](registry)
        return page_of(registry, title=f"page {HOSTILE}" if case == "hostile" else "")
