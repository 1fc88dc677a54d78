"""PlopCallback: NFN while a transformers Trainer trains, each score a run in the registry."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from plop_cli.errors import PlopError
from plop_cli.network.adapters import merged
from plop_cli.network.randomness import same_randomness
from plop_cli.network.weights import WeightsHash
from plop_cli.runs.exchange import keep
from plop_cli.runs.identity import Identity, resolved
from plop_cli.scoring.score import score
from plop_cli.texts.tasks import Task, load_task
from plop_cli.words import listed
from plop_registry import Registry, RegistryError

_log = logging.getLogger(__name__)


class PlopCallback(TrainerCallback):  # type: ignore[misc]
    """Scores the model on a task before the first step, after every `every` steps, and after the last.

        trainer = Trainer(..., processing_class=tokenizer)
        trainer.add_callback(PlopCallback("math", every=100, log=trainer.log))
        trainer.train()                                # then: plop compare --by revision --model NAME

    Training goes on as if nothing had happened, to the bit: modes, gradients, random states and every weight are left
    as they were. A PEFT model is scored as what it computes, W being base weight plus adapter, in merged copies of the
    adapted layers: its modules are named, and its scores compare, as those of the base model. Weights are scored in
    their own dtype, without autocast, and without the prompts that prompt tuning puts before a text. Of several
    processes the first one scores, and the others wait for it.

    Args:
        task: as for `plop score` (`math`, `sample/math`, a file, …), or a `Task` of texts of your own.
        every: steps between scores. One takes about as long as a forward pass over the texts; the log says how long.
        registry: where the runs go; default as for `plop score`.
        model: what the runs' model is called; default the name of `output_dir`. The revision is `checkpoint-STEP`, as
            for a saved checkpoint, and what pins it is a hash of the weights in memory: frozen ones are hashed once.
        samples, max_length, seed, chat: as for `plop score`.
        log: what is given the metrics. `trainer.log` reaches whatever the Trainer reports to (trackio, W&B,
            TensorBoard, MLflow), and the trainer's history; a callback cannot reach those by itself, so by default
            the history alone has them. They are `plop/nfn/TASK/TYPE`; `plop/seconds/TASK`, what this score took; and
            `plop/share/TASK`, the part of the time since training began that all scores took. Most reporters put
            `train/` before them, as before the loss.

    Raises PlopError or RegistryError where training would begin with what cannot work: no such task, a Trainer without
    tokenizer, sharded weights (FSDP, DeepSpeed), a registry that cannot be written. Later failures are warnings, since
    they are no reason to lose a training run.
    """

    def __init__(
        self,
        task: str | Task,
        *,
        every: int,
        registry: Registry | str | Path | None = None,
        model: str | None = None,
        samples: int = 64,
        max_length: int = 256,
        seed: int = 0,
        chat: bool = False,
        log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        if every < 1:
            raise PlopError(f"every is {every}; give the number of steps between scores, at least 1")
        self._task = load_task(task, samples=samples, seed=seed) if isinstance(task, str) else task
        self._every = every
        self._registry = registry if isinstance(registry, Registry) else Registry(registry)
        self._model = model
        self._options: dict[str, Any] = {"max_length": max_length, "seed": seed, "chat": chat}
        self._log = log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        if args.fsdp or args.deepspeed:
            raise PlopError(
                "PlopCallback needs whole weights; score the checkpoints instead: plop score RUN/checkpoint-*"
            )
        if kwargs.get("processing_class") is None:
            raise PlopError("the Trainer has no tokenizer; give it processing_class=tokenizer")
        if args.report_to and self._log is None:
            _log.warning(
                "NFN goes into the trainer's history alone; for %s too, give PlopCallback(…, log=trainer.log)",
                listed(args.report_to),
            )
        self._began, self._spent, self._weights = time.perf_counter(), 0.0, WeightsHash()
        self._registry.upgrade()
        self._score(args, state, control, **kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        due = state.global_step % self._every == 0 or state.global_step >= state.max_steps
        if not due or not state.is_world_process_zero:
            return
        try:
            self._score(args, state, control, **kwargs)
        except (PlopError, RegistryError, torch.OutOfMemoryError) as error:
            _log.warning("step %d has no score on %s: %s", state.global_step, self._task.id, error)

    def _score(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        processing_class: Any,
        **others: Any,
    ) -> None:
        """Score, store, log."""
        started, task = time.perf_counter(), self._task
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        with same_randomness(), merged(model) as plain:
            scores = score(plain, tokenizer, task.texts, **self._options)
        identity = Identity(
            model_id=self._model or Path(args.output_dir).resolve().name,
            model_label=f"checkpoint-{state.global_step}",
            model_revision=self._weights.revision(model),
            task=task,
            settings=scores.settings,
            places={"model_path": resolved(Path(args.output_dir) / f"checkpoint-{state.global_step}")},
        )
        with self._registry as registry:
            keep(registry, identity.run(scores), scores.matrix)
        seconds = time.perf_counter() - started
        self._spent += seconds
        self._tell(
            {
                **{f"plop/nfn/{task.id}/{one.type}": one.nfn for one in scores.types},
                f"plop/seconds/{task.id}": seconds,
                f"plop/share/{task.id}": self._spent / (time.perf_counter() - self._began),
            },
            state,
            control,
        )

    def _tell(self, metrics: dict[str, float], state: TrainerState, control: TrainerControl) -> None:
        if self._log is None:
            state.log_history.append({**metrics, "epoch": state.epoch, "step": state.global_step})
            return
        # A log of ours counts as the one that was due, and the trainer would leave its own out.
        due = control.should_log
        self._log(metrics)
        control.should_log = due
