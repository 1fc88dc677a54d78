"""LoRA runs that can be compared: one model, held once; one run per placement, learning rate and seed.

bench = Bench(Size())
bench.scores                                   # NFN of the training questions, before any training
bench.tuned(placement, seeds=[0, 1, 2])        # a Run per seed, at the placement's own learning rate

A run that is finished is kept in experiments/results/runs.jsonl and not made again, by this or another program.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting

from experiments.shared.data import gsm8k, last_number, load_model, needed, training_dtype
from experiments.shared.placements import described
from experiments.shared.program import kept_runs, results_of
from plop_cli import NFNScores, Placement, score
from plop_cli.models.fingerprints import formerly
from plop_cli.models.source import DEMO, identify
from plop_cli.network.randomness import same_randomness
from plop_cli.racing.examples import Example
from plop_cli.racing.losses import Room, gradients, measure
from plop_cli.racing.training import adapted, batches, train


@dataclass(frozen=True)
class Size:
    """How large a run is. `longest` is in tokens: longer pairs are left out."""

    steps: int = 40
    batch: int = 4
    longest: int = 112
    validation: int = 16
    test: int = 48
    scored: int = 64
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)


QUICK = Size(steps=3, batch=2, longest=80, validation=2, test=4, scored=8, rates=(1e-3,))


@dataclass(frozen=True)
class Run:
    """One training: the loss of each step, and of what was held out the loss of each pair.

    A loss is the mean over the answer's tokens, in nats. `solved`: of the test questions, where that was asked for.
    """

    rate: float
    seed: int
    parameters: int
    train: list[float]
    validation: list[float]
    test: list[float]
    solved: int | None = None

    @property
    def loss(self) -> float:
        """The mean over the test pairs."""
        return fmean(self.test)

    def summary(self) -> dict[str, float]:
        """For the results of a program; the rest is in runs.jsonl."""
        train = fmean(self.train[-10:])
        summary = {"seed": self.seed, "rate": self.rate, "loss": round(self.loss, 5), "train": round(train, 5)}
        return summary if self.solved is None else {**summary, "solved": self.solved}


class Bench:
    """A model with its pairs, on which placements are trained one after the other."""

    def __init__(self, size: Size, *, model: str = DEMO, data: Sequence[Path] = (), keep: bool = True) -> None:
        self.size = size
        self.kept = results_of("runs", model, ".jsonl") if keep else None
        with formerly():  # a name that stays, however plop hashes next: kept runs are found by it
            self.revision = identify(model).revision
        self.dtype = training_dtype()
        self.model, self.tokenizer = load_model(model, self.dtype)
        if self.model.device.type == "cpu":
            self.model.set_attn_implementation("eager")  # has the fastest backward pass for short texts in bfloat16
        self.questions = [pair["question"] for pair in gsm8k("train", data)[: self.size.scored]]
        self.train = list(self._examples(gsm8k("train", data)))
        self.validation = [self.train.pop() for _ in range(min(self.size.validation, len(self.train)))]
        self.test = list(self._examples(gsm8k("test", data)))[: self.size.test]
        needed(len(self.train), self.size.batch, f"pairs for training of at most {self.size.longest} tokens")
        needed(len(self.test), self.size.test, f"pairs for testing of at most {self.size.longest} tokens")

    @cached_property
    def scores(self) -> NFNScores:
        """NFN of the untrained model on training questions."""
        return score(self.model, self.tokenizer, self.questions)

    def setting(self) -> dict[str, Any]:
        """What the results should say about how they were made."""
        return {
            **asdict(self.size),
            "dtype": self.dtype,
            "pairs": len(self.train),
            "nfn": {t.type: t.nfn for t in self.scores.types},
        }

    def tuned(self, placement: Placement, seeds: Sequence[int]) -> list[Run]:
        """A run for each seed, at the learning rate with the lowest validation loss for the first seed."""
        tried = [self.run(placement, rate=rate, seed=seeds[0]) for rate in self.size.rates]
        best = min(tried, key=lambda run: fmean(run.validation))
        return [best, *(self.run(placement, rate=best.rate, seed=seed) for seed in seeds[1:])]

    def run(self, placement: Placement, *, rate: float, seed: int, solve: bool = False) -> Run:
        """Train adapters; the seed is their start, which pairs they see, and in which order.

        `solve`: let the trained model answer the test questions too.
        """
        key = self._key(placement, rate, seed)
        for kept in reversed(kept_runs(self.kept)):
            if kept["key"] == key and not (solve and kept["run"].get("solved") is None):
                return Run(**kept["run"])
        started = time.perf_counter()
        with self.trained(placement, rate=rate, seed=seed) as losses:
            held_out = self._measured(self.validation), self._measured(self.test)
            solved = self.solved() if solve else None
        run = Run(rate, seed, placement.trainable_parameters, losses, *held_out, solved)
        if self.kept:
            name = f"{', '.join(sorted({module.type for module in placement.modules}))} r={placement.rank}"
            with self.kept.open("a") as file:
                seconds = round(time.perf_counter() - started, 3)
                file.write(json.dumps({"key": key, "placement": name, "run": asdict(run), "seconds": seconds}) + "\n")
        return run

    @contextmanager
    def trained(self, placement: Placement, *, rate: float, seed: int) -> Iterator[list[float]]:
        """Inside, `model` has trained adapters; gives the loss of each step."""
        size = self.size
        chosen = batches(self.train, size.batch, size.steps, seed)
        with same_randomness(), adapted(self.model, placement, seed) as tuned:
            room = Room(size.batch)
            losses = train(tuned, chosen, lambda batch: gradients(tuned, batch, room, print), rate)
            yield [round(loss, 4) for loss in losses]

    @torch.no_grad()
    def solved(self) -> int:
        """To how many test questions the model, as it is now, gives the right number last: greedily, in 96 tokens."""
        count = 0
        for start in range(0, len(self.test), 64):
            group = self.test[start : start + 64]
            pairs = [(list(example.ids), example.counts.index(True)) for example in group]
            questions = {"input_ids": [ids[:start] for ids, start in pairs]}
            asked = self.tokenizer.pad(questions, padding_side="left", return_tensors="pt").to(self.model.device)
            half = torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")
            with half, disable_input_dtype_casting(self.model):
                ids = self.model.generate(**asked, max_new_tokens=96, do_sample=False)
            written, answers = (
                map(last_number, self.tokenizer.batch_decode(tokens, skip_special_tokens=True))
                for tokens in (ids[:, asked["input_ids"].shape[1] :], [ids[start:] for ids, start in pairs])
            )
            count += sum(map(str.__eq__, written, answers))
        return count

    @cached_property
    def untrained(self) -> float:
        """The test loss of the model as it is."""
        return fmean(self._measured(self.test))

    def _measured(self, examples: Sequence[Example]) -> list[float]:
        return [round(loss, 5) for loss in measure(self.model, examples)]

    def _examples(self, pairs: Sequence[dict[str, str]]) -> Iterator[Example]:
        """Those that are short enough, without GSM8K's <<calculator notes>>."""
        for pair in pairs:
            question = self.tokenizer(pair["question"].strip() + "\n")["input_ids"]
            answer = self.tokenizer(re.sub(r"<<.*?>>", "", pair["answer"]), add_special_tokens=False)["input_ids"]
            example = Example.pair(question, [*answer, self.tokenizer.eos_token_id])
            if len(example.ids) <= self.size.longest:
                yield example

    def _key(self, placement: Placement, rate: float, seed: int) -> str:
        """Of everything that makes a run what it is."""
        size = {name: value for name, value in asdict(self.size).items() if name not in ("rates", "scored")}
        texts = [example.ids for example in (*self.train, *self.validation, *self.test)]
        adapters = [sorted(placement.matched_modules), placement.rank, placement.alpha]
        dtype = [] if self.dtype == "bfloat16" else [self.dtype]
        what = [self.revision, adapters, rate, seed, size, texts, *dtype]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def told(placement: Placement, runs: Sequence[Run]) -> dict[str, Any]:
    """What the results say about a placement and its runs; `pairs` is the mean loss of each test pair."""
    pairs = [round(fmean(losses), 4) for losses in zip(*(run.test for run in runs), strict=True)]
    return {**described(placement), "runs": [run.summary() for run in runs], "pairs": pairs}
