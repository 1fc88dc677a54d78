"""Do models that were trained on a task have higher NFN on it? (Section 3, Figure 6)

    python -m experiments.specialised [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]

SmolLM2 is fine-tuned on GSM8K with LoRA in every module type, and scored by PlopCallback on held-out GSM8K questions
and on code. The runs stay in a registry:

    plop compare --by revision --model math-seed0 --task gsm8k --registry experiments/results/specialised.db
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import altair as alt
import torch
from transformers import DataCollatorForLanguageModeling, PrinterCallback, Trainer, TrainingArguments

from experiments.shared.data import Pair, called, gsm8k, load_model, needed, pairs_of
from experiments.shared.markdown import command, figure, section, table
from experiments.shared.program import Results, main, results_of
from plop_cli import PlopCallback, recommend
from plop_cli.method.significance import differences, holm
from plop_cli.network.modules import linear_modules
from plop_cli.texts.tasks import Task, load_task
from plop_cli.words import counted
from plop_registry import Registry, Run

TASKS = {"gsm8k": "math, trained on", "sample/code": "code, not trained on"}


@dataclass(frozen=True)
class Size:
    """How large a run is; `longest` in tokens: longer pairs are left out."""

    rank: int = 16
    learning_rate: float = 5e-4
    steps: int = 300
    batch: int = 4
    longest: int = 128
    samples: int = 32
    every: int = 75


QUICK = Size(steps=4, batch=2, samples=8, every=4)


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """A training for each seed, scored on both tasks before, meanwhile and after."""
    questions = [pair["question"] for pair in gsm8k("test", data)[: size.samples]]
    tasks = [Task("gsm8k", "test", tuple(questions)), load_task("sample/code", samples=size.samples)]
    pairs = gsm8k("train", data)
    store = results_of("specialised", model, ".quick.db" if quick else ".db")
    store.unlink(missing_ok=True)
    return {"settings": asdict(size), "runs": [_trained(model, seed, pairs, tasks, store, size) for seed in seeds]}


def _trained(base: str, seed: int, pairs: Sequence[Pair], tasks: Sequence[Task], store: Path, size: Size) -> Results:
    """One training: its losses, what scoring took, and NFN of each task over it, with the change paired by texts."""
    model, tokenizer = load_model(base)
    types = {module.type for module in linear_modules(model)[0]}
    torch.manual_seed(seed)  # of the adapters; the trainer seeds the rest
    texts = [f"{pair['question']}\n{pair['answer']}{tokenizer.eos_token}" for pair in pairs]
    rows = [{"input_ids": ids} for ids in tokenizer(texts)["input_ids"] if len(ids) <= size.longest]
    needed(len(rows), size.batch, f"pairs of at most {size.longest} tokens")
    name = f"math-seed{seed}"
    with tempfile.TemporaryDirectory() as scratch, Registry(store) as registry:
        arguments = TrainingArguments(
            output_dir=f"{scratch}/{name}",
            max_steps=size.steps,
            per_device_train_batch_size=size.batch,
            learning_rate=size.learning_rate,
            warmup_steps=size.steps // 20,
            lr_scheduler_type="cosine",
            logging_steps=max(1, size.steps // 20),
            save_strategy="no",
            seed=seed,
            use_cpu=model.device.type == "cpu",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            recommend(targets=sorted(types), rank=size.rank, model=model).apply(model),
            arguments,
            train_dataset=rows,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
            processing_class=tokenizer,
            callbacks=[PlopCallback(task, every=size.every, registry=registry) for task in tasks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        history = trainer.state.log_history
        return {
            "loss": _logged(history, "loss"),
            "seconds": {task.id: _logged(history, f"plop/seconds/{task.id}") for task in tasks},
            "share": sum(_logged(history, f"plop/share/{task.id}")[-1] for task in tasks),
            "tasks": {task.id: _development(registry, name, task.id) for task in tasks},
        }


def _logged(history: Sequence[dict[str, float]], key: str) -> list[float]:
    return [round(row[key], 4) for row in history if key in row]


def _development(registry: Registry, model: str, task: str) -> dict[str, Any]:
    """NFN of each type by step, and its change from the first step to the last, with standard error and Holm's p."""
    runs = sorted(registry.runs(model=model, task=task, modules=True), key=_step)
    first, last = runs[0], runs[-1]
    changes, _ = differences(last, registry.matrix(last.id), first, registry.matrix(first.id))
    corrected = holm([change.p for change in changes.values()])
    return {
        "steps": list(map(_step, runs)),
        "nfn": {score.type: [_nfn(run, score.type) for run in runs] for score in first.types},
        "change": {
            name: {"nfn": change.nfn, "stderr": change.stderr, "p": p}
            for (name, change), p in zip(changes.items(), corrected, strict=True)
        },
    }


def _step(run: Run) -> int:
    return int(run.model_label.removeprefix("checkpoint-"))


def _nfn(run: Run, name: str) -> float:
    return next(score.nfn for score in run.types if score.type == name)


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    """NFN against what it was before training, in percent, over the steps of the first seed."""
    rows = [
        {"step": step, "type": name, "task": about, "change": value / values[0] - 1}
        for task, about in TASKS.items()
        for development in [results["runs"][0]["tasks"][task]]
        for name, values in development["nfn"].items()
        for step, value in zip(development["steps"], values, strict=True)
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("step:Q"),
            y=alt.Y("change:Q", title="NFN, change", axis=alt.Axis(format="+.0%")),
            color=alt.Color("type:N", title=None),
        )
        .properties(width=260, height=200)
        .facet(column=alt.Column("task:N", title=None, sort=list(TASKS.values())))
    )
    return {"specialised": chart}


def tell(results: Results) -> str:
    settings, runs = results["settings"], results["runs"]
    rows = [_row(name, runs) for name in runs[0]["tasks"]["gsm8k"]["nfn"]]
    rose = {task: [name for name in runs[0]["tasks"][task]["nfn"] if _change(runs, task, name) > 0] for task in TASKS}
    sure = {
        task: [name for name in names if all(_surely_rose(run["tasks"][task]["change"][name]) for run in runs)]
        for task, names in rose.items()
    }
    fell = [name for name in runs[0]["tasks"]["gsm8k"]["nfn"] if name not in rose["gsm8k"]]
    more = [name for name in rose["gsm8k"] if _change(runs, "gsm8k", name) > _change(runs, "sample/code", name)]
    verdict = f"**It did not hold for {', '.join(fell)}**, whose NFN fell. " if fell else ""
    largest = {
        task: max(abs(_change(runs, task, name)) / values[0] for name, values in runs[0]["tasks"][task]["nfn"].items())
        for task in TASKS
    }
    spent = [seconds for run in runs for series in run["seconds"].values() for seconds in series]
    claim = f"""The paper claims that models specialised in a task have higher NFN on it, overall (Figure 6). {verdict}
    On math, {len(rose["gsm8k"])} of {len(rows)} types rose ({len(sure["gsm8k"])} of them by more than chance: p < 0.05,
    paired by text, corrected by Holm); on code, which was not trained on, {len(rose["sample/code"])} rose
    ({len(sure["sample/code"])} by more than chance). {len(more)} types rose more on math than on code. This training
    moves NFN by {largest["gsm8k"]:.1%} at most on math, {largest["sample/code"]:.1%} on code."""
    done = f"""Done: {called(results)} on questions and answers of {pairs_of(results)}, LoRA of rank {settings["rank"]}
    in every type, {settings["steps"]} AdamW steps of {settings["batch"]}, learning rate {settings["learning_rate"]:g}
    (cosine), pairs of at most {settings["longest"]} tokens, {counted(len(runs), "seed")}; training loss
    {statistics.fmean(run["loss"][0] for run in runs):.2f} → {statistics.fmean(run["loss"][-1] for run in runs):.2f}.
    `PlopCallback` scored {settings["samples"]} held-out questions and {settings["samples"]} samples of code every
    {settings["every"]} steps, adapters included: {statistics.median(spent):.0f} s a score,
    {statistics.fmean(run["share"] for run in runs):.0%} of the training's time. ± is the standard error over texts."""
    return section(f"""## Specialised models score higher

{claim}

{done}

{table(rows)}

{figure(results, "specialised", "NFN over training, on the task trained on and on another")}

{command(results)}
""")


def _row(name: str, runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    row = {"type": name}
    for task, about in (("gsm8k", "math"), ("sample/code", "code")):
        values = [run["tasks"][task]["nfn"][name] for run in runs]
        ends = [statistics.fmean(series[end] for series in values) for end in (0, -1)]
        error = statistics.fmean(run["tasks"][task]["change"][name]["stderr"] for run in runs)
        row |= {
            f"{about} before": f"{ends[0]:.3f}",
            f"{about} after": f"{ends[1]:.3f}",
            f"{about} change": f"{_change(runs, task, name):+.4f} ± {error:.4f}",
        }
    return row


def _surely_rose(change: dict[str, float]) -> bool:
    return change["nfn"] > 0 and change["p"] < 0.05


def _change(runs: Sequence[dict[str, Any]], task: str, name: str) -> float:
    return statistics.fmean(run["tasks"][task]["change"][name]["nfn"] for run in runs)


if __name__ == "__main__":
    main("specialised", run, tell, seeds=[0], data="GSM8K", sizes=(Size(), QUICK))
