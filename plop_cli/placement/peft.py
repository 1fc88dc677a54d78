"""PEFT: what `LoraConfig` is called with, the `LoraConfig` itself, and the adapted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plop_cli.errors import PlopError
from plop_cli.placement.targets import adapted

if TYPE_CHECKING:
    from torch import nn

    from plop_cli.placement.placement import Placement

_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def arguments(placement: Placement) -> dict[str, Any]:
    """What `LoraConfig` is called with. What says nothing new is left out."""
    targets, parameters = placement.targeting
    return {
        **({"task_type": kind} if (kind := task_type(placement.architecture)) else {}),
        "r": placement.rank,
        "lora_alpha": placement.alpha,
        **({"use_rslora": True} if placement.rslora else {}),
        "target_modules": targets if isinstance(targets, str) else list(targets),
        **({"target_parameters": list(parameters)} if parameters else {}),
    }


def task_type(architecture: str) -> str | None:
    """PEFT's task type, where the class of the model says what it is for."""
    return next((kind for ending, kind in _TASKS.items() if architecture.endswith(ending)), None)


def lora_config(placement: Placement) -> Any:
    """`peft.LoraConfig`; PlopError where PEFT is not installed."""
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise PlopError('this needs PEFT, which is not installed; pip install "plop-cli[peft]"') from error
    return LoraConfig(**arguments(placement))


def apply(placement: Placement, model: nn.Module) -> Any:
    """The PEFT model. The model is not touched where it is another one than was scored."""
    config = lora_config(placement)
    from peft import get_peft_model

    has = {name for name, _ in model.named_parameters()}
    stacks = [stack for stack in placement.stacks if stack in has]
    found = adapted(placement.targeting, [name for name, _ in model.named_modules()], stacks)
    if sorted(found) != sorted(placement.matched_modules):
        raise PlopError(
            f"the placement is of {len(placement.matched_modules)} modules of a {placement.architecture}, and this "
            f"{type(model).__name__} has {len(found)} that fit; give the model that was scored"
        )
    return get_peft_model(model, config)
