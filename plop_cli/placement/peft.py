"""What PEFT's `LoraConfig` is called with, and that configuration itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plop_cli.errors import require
from plop_cli.placement.targets import Targeting

_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def arguments(
    architecture: str, targeting: Targeting, *, rank: int, alpha: int, rslora: bool = False
) -> dict[str, Any]:
    """What `LoraConfig` is called with to adapt `targeting` in a model of this class. What says nothing is left out."""
    targets, parameters = targeting
    return {
        **({"task_type": kind} if (kind := task_type(architecture)) else {}),
        "r": rank,
        "lora_alpha": alpha,
        **({"use_rslora": True} if rslora else {}),
        "target_modules": targets if isinstance(targets, str) else list(targets),
        **({"target_parameters": list(parameters)} if parameters else {}),
    }


def task_type(architecture: str) -> str | None:
    """PEFT's task type, where the class of the model says what it is for."""
    return next((kind for ending, kind in _TASKS.items() if architecture.endswith(ending)), None)


def lora_config(arguments: Mapping[str, Any]) -> Any:
    """`peft.LoraConfig` with these arguments; PlopError where PEFT is not installed."""
    require("peft", "a LoraConfig")
    from peft import LoraConfig

    return LoraConfig(**arguments)
