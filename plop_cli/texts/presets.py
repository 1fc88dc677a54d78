"""The built-in tasks: the data sets of the paper, and samples that need no hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports NumPy, which completion would wait for
    from plop_cli.texts.rows import Row


@dataclass(frozen=True)
class Preset:
    """A task of the paper: a hub data set, and the text that the paper's released code makes of a row."""

    dataset: str
    config: str | None
    split: str
    text: Callable[[Row], str]
    about: str

    @property
    def source(self) -> str:
        """The data set as TASK would name it."""
        return self.dataset + (f":{self.config}" if self.config else "") + f"@{self.split}"


def _lettered(row: Row) -> str:
    return "\n".join([row["question"], *(f"{chr(65 + i)}. {choice}" for i, choice in enumerate(row["choices"]))])


PRESETS = {
    "math": Preset("openai/gsm8k", "main", "train", lambda row: row["question"], "GSM8K questions"),
    "code": Preset(
        "openai/openai_humaneval",
        None,
        "test",
        lambda row: f"# Write a Python function\n{row['prompt']}",
        "HumanEval prompts",
    ),
    "history": Preset(
        "cais/mmlu", "high_school_european_history", "test", _lettered, "MMLU European history, with choices"
    ),
    "logic": Preset("cais/mmlu", "logical_fallacies", "test", _lettered, "MMLU logical fallacies, with choices"),
    "metamath": Preset("meta-math/MetaMathQA", None, "train", lambda row: row["query"], "MetaMathQA queries"),
    "anli": Preset(
        "facebook/anli",
        None,
        "train_r1",
        lambda row: f"{row['premise']}\n{row['hypothesis']}",
        "ANLI round 1, premise and hypothesis",
    ),
}

SAMPLES = {
    "sample/math": "word problems, written for plop",
    "sample/code": "Python function stubs, written for plop",
    "sample/history": "European history questions with choices, written for plop",
    "sample/logic": "fallacy and reasoning questions with choices, written for plop",
}
