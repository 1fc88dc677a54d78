"""A placement: which modules get a LoRA adapter, of what rank, why there, and what that costs.

    placement = recommend(scores, types=3, rank=16)
    placement.targets                 # ("down_proj", "up_proj", "v_proj")
    placement.trainable_parameters    # 2_626_560
    model = placement.apply(model)    # real PEFT

Torch and PEFT are imported by `apply` and `lora_config` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from plop_cli.errors import PlopError
from plop_cli.method.choice import Choice
from plop_cli.placement.peft import arguments, lora_config, task_type
from plop_cli.placement.ranks import BYTES, Linear, Strategy, cost, rank_for
from plop_cli.placement.refused import REASON
from plop_cli.placement.targets import Targeting, Targets, adapted, target
from plop_registry.runs import finite
from plop_registry.shown import Shown

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Placement(Shown):
    """Where the adapters go, of what rank, and why there."""

    model: str
    architecture: str
    tasks: tuple[str, ...]
    choice: Choice
    """Of types, or with `by="module"` of single modules."""
    by_task: dict[str, Choice] = field(default_factory=dict)
    """Of several tasks, what each alone would choose."""
    left_out: dict[str, float] = field(default_factory=dict)
    """NFN of the types that PEFT refuses to adapt (`placement/refused`), which are therefore not chosen from."""
    modules: tuple[Linear, ...]
    """Those that get an adapter."""
    names: tuple[str, ...] = field(repr=False)
    """All modules of the model, among which `targets` must hit `modules` and nothing else."""
    stacks: tuple[str, ...] = field(default=(), repr=False)
    """The model's parameters that hold all experts of a layer."""
    rank: int
    alpha: int
    rslora: bool = False
    parameters: int | None = None
    """Of the whole model; None where only its scores are known."""
    strategies: tuple[Strategy, ...] = ()

    @cached_property
    def targeting(self) -> Targeting:
        """How PEFT is told which modules, and which parameters."""
        return target(self.matched_modules, self.names, self.stacks)

    @property
    def targets(self) -> Targets:
        """PEFT's `target_modules`: a sorted list of names, or a regex where no list can say it."""
        return self.targeting.modules

    @property
    def target_parameters(self) -> tuple[str, ...]:
        """PEFT's `target_parameters`: what holds fused experts, and the weights of what PEFT would take for that."""
        return self.targeting.parameters

    @property
    def task_type(self) -> str | None:
        """PEFT's task type: CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS, or None for any other model."""
        return task_type(self.architecture, self.names)

    @property
    def matched_modules(self) -> list[str]:
        """Full names of the modules that get an adapter, and of the parameters of fused experts that do."""
        return list(dict.fromkeys(module.place for module in self.modules))

    def adapted(self, targets: Targeting) -> list[str]:
        """What PEFT would adapt in this model, were it given these targets."""
        return adapted(targets, self.names, self.stacks)

    @property
    def trainable_parameters(self) -> int:
        """Of all adapters: r·(in + out) for each module."""
        return self.rank * cost(self.modules)

    @property
    def lora_arguments(self) -> dict[str, Any]:
        """What PEFT's `LoraConfig` is called with."""
        return arguments(self.task_type, self.targeting, rank=self.rank, alpha=self.alpha, rslora=self.rslora)

    def lora_config(self) -> Any:
        """PEFT's `LoraConfig`. Raises PlopError where PEFT is not installed."""
        return lora_config(self.lora_arguments)

    def apply(self, model: nn.Module, **more: Any) -> Any:
        """The PEFT model: `model` with an adapter on each of `modules`, all else frozen.

        Args: `more` of LoraConfig's arguments, such as `lora_dropout`.

        Raises PlopError where PEFT is not installed, or `model` does not have the modules that were scored.
        """
        config = lora_config({**self.lora_arguments, **more})
        from peft import get_peft_model

        has = {name for name, _ in model.named_parameters()}
        stacks = [stack for stack in self.stacks if stack in has]
        fitting = adapted(self.targeting, [name for name, _ in model.named_modules()], stacks)
        if sorted(fitting) != sorted(self.matched_modules):
            raise PlopError(
                f"the placement is of {len(self.matched_modules)} modules of a {self.architecture}, and this "
                f"{type(model).__name__} has {len(fitting)} that fit; give the model that was scored"
            )
        return get_peft_model(model, config)

    def matched_rank(self, strategy: Strategy) -> int:
        """The rank at which a strategy has as many parameters as this placement, rounded down; 0 is none."""
        return rank_for(self.trainable_parameters, strategy.cost)

    def sizes(self, rank: int, cost: int) -> dict[str, Any]:
        """What adapters of this rank take: parameters, their share of the model's own, bytes on disk."""
        parameters = rank * cost
        return {
            "rank": rank,
            "trainable_parameters": parameters,
            "share": parameters / self.parameters if self.parameters else None,
            "adapter_bytes": parameters * BYTES,
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (`plop recommend --format json`)."""
        choice = self.choice
        return {
            "model": self.model,
            "tasks": list(self.tasks),
            "targets": self.targets if isinstance(self.targets, str) else list(self.targets),
            "target_parameters": list(self.target_parameters),
            "matched_modules": self.matched_modules,
            "alpha": self.alpha,
            "rslora": self.rslora,
            **self.sizes(self.rank, cost(self.modules)),
            "confidence": finite(choice.confidence),
            "close": choice.close,
            "samples_wanted": choice.samples_wanted,
            "types": [
                {
                    "type": unit,
                    "nfn": finite(nfn),
                    "chosen": unit in choice.chosen,
                    "frequency": finite(choice.frequency.get(unit)),
                }
                for unit, nfn in choice.nfn.items()
            ],
            "left_out": [{"type": kind, "nfn": finite(nfn), "reason": REASON} for kind, nfn in self.left_out.items()],
            "by_task": {task: {"nfn": one.nfn, "chosen": one.chosen} for task, one in self.by_task.items()},
            "strategies": [
                {
                    "name": strategy.name,
                    "types": list(strategy.types),
                    **self.sizes(self.rank, strategy.cost),
                    "matched": self.sizes(rank, strategy.cost) if (rank := self.matched_rank(strategy)) else None,
                }
                for strategy in self.strategies
            ],
        }
