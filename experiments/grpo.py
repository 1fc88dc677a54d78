"""Placements in reinforcement learning (paper, Table 3): GRPO with rewards for the format and for the right answer.

python -m experiments.grpo [--quick] [--model MODEL] [--data train.jsonl test.jsonl] [--set steps=400 …]
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import altair as alt
from datasets import Dataset

from experiments.shared.data import Pair, called, gsm8k, load_model, needed, pairs_of, training_dtype
from experiments.shared.markdown import command, figure, section, show, table
from experiments.shared.placements import apart, described, labelled, matched
from experiments.shared.program import Results, main
from experiments.shared.verdicts import verdict
from plop_cli import Placement, PlopError, score
from plop_cli.racing.training import adapted
from plop_cli.words import counted

TAGS = ("<think>", "</think>", "<solution>", "</solution>")
PROMPT = """Think between <think> and </think>. Then write the number between <solution> and </solution>.

Question: Tom has 3 apples and buys 4 more. How many apples does he have?
<think>3 + 4 = 7</think> <solution>7</solution>

Question: Ann reads 5 pages a day for 6 days. How many pages does she read?
<think>5 * 6 = 30</think> <solution>30</solution>

Question: {question}
"""


@dataclass(frozen=True)
class Size:
    """How large a run is. Each step draws `batch` answers, `group` to a question, of at most `generated` tokens.

    `longest` is in tokens: longer questions are left out.
    """

    steps: int = 24
    batch: int = 8
    group: int = 8
    generated: int = 48
    longest: int = 48
    scored: int = 64
    rate: float = 1e-3


QUICK = Size(steps=2, batch=4, group=4, generated=24, scored=8)


def format_reward(completions: Sequence[str], **_: Any) -> list[float]:
    """Half a point for each tag that stands there once, one more where they are in order."""
    wanted = re.compile("[^<>]*".join(TAGS))
    return [sum(text.count(tag) == 1 for tag in TAGS) / 2 + (wanted.search(text) is not None) for text in completions]


def answer_reward(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float]:
    """Two points for the right number between the tags."""
    given = [re.search(r"<solution>\s*\$?([-\d.,]+?)\.?\s*</solution>", text) for text in completions]
    return [
        2.0 * (match is not None and match[1].replace(",", "") == right)
        for match, right in zip(given, answer, strict=True)
    ]


def prompts(pairs: Sequence[Pair]) -> Dataset:
    """A prompt and the number that is right, for each pair."""
    numbers = [pair["answer"].rpartition("#### ")[2].strip().replace(",", "") for pair in pairs]
    asked = [PROMPT.format(question=pair["question"]) for pair in pairs]
    return Dataset.from_dict({"prompt": asked, "answer": numbers})


def rewards(model: Any, tokenizer: Any, placement: Placement, data: Dataset, seed: int, size: Size) -> Results:
    """Train by GRPO; gives both rewards at each step."""
    try:
        from trl import GRPOConfig, GRPOTrainer
    except ModuleNotFoundError as error:
        raise PlopError('this needs TRL, which is not installed; pip install "plop-cli[experiments]"') from error
    with adapted(model, placement, seed) as tuned, tempfile.TemporaryDirectory() as folder:
        options = GRPOConfig(
            output_dir=folder,
            max_steps=size.steps,
            per_device_train_batch_size=size.batch,
            num_generations=size.group,
            max_completion_length=size.generated,
            learning_rate=size.rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, size.steps // 10),
            seed=seed,
            use_cpu=model.device.type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=tuned,
            reward_funcs=[format_reward, answer_reward],
            args=options,
            train_dataset=data,
            processing_class=tokenizer,
        )
        trainer.train()
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {
        "seed": seed,
        "format": [entry["rewards/format_reward/mean"] for entry in steps],
        "answer": [entry["rewards/answer_reward/mean"] for entry in steps],
    }


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str, size: Size) -> Results:
    """PLoP, PLoP⁻¹, attention and MLP, equally large."""
    network, tokenizer = load_model(model, training_dtype())
    pairs = gsm8k("train", data)
    short = [pair for pair in pairs if len(tokenizer.tokenize(pair["question"])) <= size.longest]
    needed(len(short), 1, f"questions of at most {size.longest} tokens")
    asked = prompts(short)
    scores = score(network, tokenizer, asked["prompt"][: size.scored])
    outcomes = {}
    for name, placement in matched(scores, network).items():
        if name != "all-linear":
            runs = [rewards(network, tokenizer, placement, asked, seed, size) for seed in seeds]
            outcomes[name] = {**described(placement), "runs": runs}
    return {"setting": asdict(size), "placements": outcomes}


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The mean of the first and of the last quarter."""
    quarter = max(1, len(values) // 4)
    return fmean(values[:quarter]), fmean(values[-quarter:])


def tell(results: Results) -> str:
    setting, outcomes = results["setting"], results["placements"]
    last = {
        name: [ends(run["format"])[1] + ends(run["answer"])[1] for run in outcome["runs"]]
        for name, outcome in outcomes.items()
    }
    claims = {
        f"PLoP ends with more reward than {other}": [
            [own - its for own, its in zip(last["PLoP"], rewards, strict=True)]
        ]
        for other, rewards in last.items()
        if other != "PLoP"
    }
    runs = [run for outcome in outcomes.values() for run in outcome["runs"]]
    first, final = (fmean(ends(run["format"])[end] for run in runs) for end in (0, 1))
    moved = (
        f"Rewards move: over all placements the mean for the format goes from {first:.2f} in the first quarter of the "
        f"steps to {final:.2f} of 3 in the last."
        if final - first > 0.5
        else f"Rewards have hardly moved (format, of 3: {first:.2f} → {final:.2f})."
    )
    listed = [
        {
            "placement": labelled(name, outcome["types"]),
            "rank": outcome["rank"],
            "parameters": f"{outcome['parameters'] / 1e6:.2f} M",
            "format, first quarter": show([ends(run["format"])[0] for run in outcome["runs"]]),
            "format, last quarter": show([ends(run["format"])[1] for run in outcome["runs"]]),
            "answer, last quarter": show([ends(run["answer"])[1] for run in outcome["runs"]]),
        }
        for name, outcome in outcomes.items()
    ]
    return section(f"""## GRPO

{verdict(claims)} {moved} How far this carries: {counted(setting["steps"], "step")} of {setting["batch"]} answers,
{counted(len(results["seeds"]), "seed")}, show that every placement trains under TRL. They are too few to tell
placements apart, and to teach this model to solve what it could not solve before.

**Claimed** (Table 3): trained by GRPO, PLoP earns more reward for format and answer than attention, MLP and PLoP⁻¹.

**Done:** {called(results)}, TRL's GRPOTrainer on questions of {pairs_of(results)} of at most {setting["longest"]}
tokens with two solved examples before them; {setting["group"]} answers of at most {setting["generated"]} tokens to a
question, learning rate {setting["rate"]:g}; placements within {apart(outcomes)} of each other's parameters. Format:
half a point for each of the four tags that stands there once, one more for their order. Answer: two points for the
right number between the tags.

{figure(results, "grpo", "Reward of each placement over the steps")}

{table(listed)}

{command(results)}
""")


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    points = [
        {"placement": name, "step": step, "reward": form + answer}
        for name, outcome in results["placements"].items()
        for run in outcome["runs"]
        for step, (form, answer) in enumerate(zip(run["format"], run["answer"], strict=True), 1)
    ]
    chart = alt.Chart(alt.InlineData(values=points)).mark_line()
    encoded = chart.encode(alt.X("step:Q"), alt.Y("mean(reward):Q", title="reward"), color="placement:N")
    return {"grpo": encoded.properties(width=420, height=240)}


if __name__ == "__main__":
    main("grpo", run, tell, seeds=range(1), data="GSM8K", sizes=(Size(), QUICK))
