"""Placements in sequence classification (paper, Figure 7): does the second text follow from the first? (ANLI, round 1)

python -m experiments.classification [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]

The files hold rows of `premise`, `hypothesis` and `label` (0 follows, 1 neither, 2 contradicts). Without files a
quick run makes such lines up: it shows the harness, not the claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import altair as alt
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification

from experiments.shared.data import called, load_model, needed, rows, training_dtype
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, described, labelled, matched
from experiments.shared.program import Results, main
from experiments.shared.verdicts import verdict
from plop_cli import Placement, score
from plop_cli.racing.training import adapted, train
from plop_cli.words import counted

Case = dict[str, Any]
"""A `premise`, a `hypothesis` and a `label`."""


@dataclass(frozen=True)
class Size:
    """How large a run is; `longest` in tokens."""

    steps: int = 1000
    batch: int = 16
    longest: int = 256
    validation: int = 500
    test: int = 1000
    scored: int = 64
    rates: tuple[float, ...] = (1e-4, 2e-4, 5e-4)


QUICK = Size(steps=12, batch=8, validation=24, test=60, scored=8, rates=(1e-3,))


class Classifier:
    """A model with a new head for three classes."""

    def __init__(self, size: Size, model: str) -> None:
        language, self.tokenizer = load_model(model, training_dtype())
        language.config.num_labels, language.config.pad_token_id = 3, self.tokenizer.pad_token_id
        torch.manual_seed(0)  # one head for all placements and seeds
        headed = AutoModelForSequenceClassification.from_config(language.config, dtype=language.dtype)
        self.model = headed.to(language.device).eval()
        self.model.base_model.load_state_dict(language.base_model.state_dict())
        body = f"{self.model.base_model_prefix}."
        self.head = {key: value.clone() for key, value in self.model.state_dict().items() if not key.startswith(body)}
        self.size = size

    def trained(self, placement: Placement, rate: float, seed: int, cases: Mapping[str, Sequence[Case]]) -> Results:
        """Train adapters and head; gives the losses, and of what is held out the share that is right."""
        draw = Random(seed)
        batches = [draw.sample(cases["train"], self.size.batch) for _ in range(self.size.steps)]
        self.model.load_state_dict(self.head, strict=False)  # PEFT leaves the trained one behind
        with adapted(self.model, placement, seed) as tuned:
            losses = [round(loss, 4) for loss in train(tuned, batches, self._gradients, rate)]
            right = {name: self._accuracy(cases[name]) for name in ("validation", "test")}
        return {"seed": seed, "rate": rate, "train": fmean(losses[-10:]), "losses": losses, **right}

    def _gradients(self, batch: Sequence[Case]) -> float:
        loss = cross_entropy(self._logits(batch), self._labels(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    @torch.no_grad()
    def _accuracy(self, cases: Sequence[Case]) -> float:
        groups = [cases[start : start + 32] for start in range(0, len(cases), 32)]
        right = [self._logits(group).argmax(-1) == self._labels(group) for group in groups]
        return torch.cat(right).float().mean().item()

    def _logits(self, cases: Sequence[Case]) -> torch.Tensor:
        options = {"padding": True, "truncation": True, "max_length": self.size.longest, "return_tensors": "pt"}
        inputs = self.tokenizer([_text(case) for case in cases], **options).to(self.model.device)
        half = self.model.dtype == torch.bfloat16
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=half):
            logits: torch.Tensor = self.model(**inputs).logits
        return logits.float()

    def _labels(self, cases: Sequence[Case]) -> torch.Tensor:
        return torch.tensor([case["label"] for case in cases], device=self.model.device)


def _text(case: Case) -> str:
    return f"{case['premise']}\n{case['hypothesis']}"


def anli(split: str, data: Sequence[Path], *, quick: bool) -> list[Case]:
    """The cases of a split, "train" or "test": of the files, else made up for a quick run, else of the hub."""
    if quick and not data:
        return made_up(400 if split == "train" else 60, seed=split)
    return rows(split, data, ("premise", "hypothesis", "label"), hub=("facebook/anli", None, f"{split}_r1"))


def made_up(count: int, seed: str) -> list[Case]:
    """Cases about how many things a box holds."""
    draw, cases = Random(seed), []
    for number in range(count):
        thing, holds, label = draw.choice(["red balls", "old books", "green apples"]), draw.randint(4, 9), number % 3
        says = ("more than two", "heavy", "no")[label]
        hypothesis = f"The {thing} are heavy." if label == 1 else f"There are {says} {thing} in the box."
        cases.append({"premise": f"The box holds {holds} {thing}.", "hypothesis": hypothesis, "label": label})
    return cases


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """Each placement at the learning rate with the highest validation accuracy for the first seed."""
    known, test = anli("train", data, quick=quick), anli("test", data, quick=quick)[: size.test]
    cases = {"train": known[size.validation :], "validation": known[: size.validation], "test": test}
    needed(len(cases["train"]), size.batch, "cases for training")
    classifier = Classifier(size, model)
    scores = score(classifier.model, classifier.tokenizer, [_text(case) for case in cases["train"][: size.scored]])
    outcomes = {}
    for name, placement in matched(scores, classifier.model).items():
        tried = [classifier.trained(placement, rate, seeds[0], cases) for rate in size.rates]
        best = max(tried, key=lambda run: float(run["validation"]))
        runs = [best, *(classifier.trained(placement, best["rate"], seed, cases) for seed in seeds[1:])]
        outcomes[name] = {**described(placement), "runs": runs}
    return {"setting": asdict(size), "made_up": quick and not data, "placements": outcomes}


def tell(results: Results) -> str:
    setting, outcomes = results["setting"], results["placements"]
    accuracy = {name: [run["test"] for run in outcome["runs"]] for name, outcome in outcomes.items()}
    claims = {
        f"PLoP classifies better than {other}": [[own - its for own, its in zip(accuracy["PLoP"], right, strict=True)]]
        for other, right in accuracy.items()
        if other != "PLoP"
    }
    opening = (
        "The cases are made up, ANLI itself being on the hub: whether the claim holds is not shown."
        if results["made_up"]
        else f"{verdict(claims)} In brackets: by how much, in accuracy, over seeds."
    )
    listed = [
        {
            "placement": labelled(name, outcome["types"]),
            "rank": outcome["rank"],
            "parameters": f"{outcome['parameters'] / 1e6:.2f} M",
            "learning rate": f"{outcome['runs'][0]['rate']:g}",
            "train loss": show([run["train"] for run in outcome["runs"]]),
            "accuracy": show(accuracy[name]),
        }
        for name, outcome in outcomes.items()
    ]
    return section(f"""## Sequence classification

{opening}

**Claimed** (Figure 7): on ANLI, PLoP learns better than attention, and as well as MLP or better.

**Done:** {called(results)} with a new head for three classes, adapters within {apart(outcomes)} of each other's
parameters (and the head, which starts the same for all), {setting["steps"]} steps of AdamW with {setting["batch"]}
cases, 10 % warmup and a cosine (the paper: no warmup, linear, dropout 0.1), {counted(len(results["seeds"]), "seed")};
learning rates {", ".join(f"{rate:g}" for rate in setting["rates"])}, chosen on the first seed by
{setting["validation"]} validation cases; accuracy on {setting["test"]} {"made-up " if results["made_up"] else ""}cases,
where chance is a third.

{figure(results, "classification", "Training loss of each placement")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    points = [
        {"placement": name, "step": step, "training loss": loss}
        for name, outcome in results["placements"].items()
        for run in outcome["runs"]
        for step, loss in enumerate(run["losses"], 1)
    ]
    chart = alt.Chart(alt.InlineData(values=points)).mark_line()
    return {
        "classification": chart.encode(
            alt.X("step:Q"), alt.Y("mean(training loss):Q", title="training loss"), color="placement:N"
        ).properties(width=420, height=240)
    }


if __name__ == "__main__":
    main("classification", run, tell, seeds=range(3), data="ANLI", sizes=(Size(), QUICK))
