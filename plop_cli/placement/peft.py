"""What PEFT's `LoraConfig` is called with, and that configuration itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plop_cli.errors import require
from plop_cli.placement.targets import Targeting

_SIDES = ("encoder", "decoder")
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "MTModel": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def arguments(kind: str | None, targeting: Targeting, *, rank: int, alpha: int, rslora: bool = False) -> dict[str, Any]:
    """What `LoraConfig` is called with to adapt `targeting` in a model of this task type; without what says nothing."""
    targets, parameters = targeting
    return {
        **({"task_type": kind} if kind else {}),
        "r": rank,
        "lora_alpha": alpha,
        **({"use_rslora": True} if rslora else {}),
        "target_modules": targets if isinstance(targets, str) else list(targets),
        **({"target_parameters": list(parameters)} if parameters else {}),
    }


def task_type(architecture: str, names: Iterable[str] = ()) -> str | None:
    """PEFT's task type, where the class of the model and the paths of its modules say what it is for.

    A model for conditional generation has an encoder and a decoder side by side; or towers beside a decoder, and is
    then tuned like any causal language model. One that hears has no type: PEFT would give it tokens.
    """
    if not architecture.endswith("ForConditionalGeneration"):
        return next((kind for ending, kind in _TASKS.items() if architecture.endswith(ending)), None)
    paths = [name.split(".") for name in names]
    sides = {side: {tuple(path[: path.index(side)]) for path in paths if side in path} for side in _SIDES}
    if not sides["encoder"] & sides["decoder"]:
        return "CAUSAL_LM"
    return None if any(part.startswith("conv") for path in paths for part in path) else "SEQ_2_SEQ_LM"


def lora_config(arguments: Mapping[str, Any]) -> Any:
    """`peft.LoraConfig` with these arguments; PlopError where PEFT is not installed."""
    require("peft", "a LoraConfig")
    from peft import LoraConfig

    return LoraConfig(**arguments)
