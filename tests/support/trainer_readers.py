"""What the trainers' own code makes of an export: run beside their packages (`trainers.read`), one JSON in, one out.

echo '{"text": …, "model_type": …, "config": {…}}' | PYTHONPATH=.trainers python trainer_readers.py mlx-lm
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from typing import Any

import yaml


def axolotl(text: str, **_: Any) -> dict[str, Any]:
    """axolotl/loaders/adapter.py hands these on to PEFT."""
    from axolotl.utils.schemas.peft import LoraConfig

    found = LoraConfig.model_validate(yaml.safe_load(text))
    assert found.adapter == "lora"
    return {
        "r": found.lora_r,
        "lora_alpha": found.lora_alpha,
        "lora_dropout": found.lora_dropout,
        "use_rslora": bool(found.peft_use_rslora),
        "target_modules": found.lora_target_modules,
        "target_parameters": found.lora_target_parameters,
    }


def llamafactory(text: str, **_: Any) -> dict[str, Any]:
    """llamafactory/model/adapter.py hands these on to PEFT."""
    from llamafactory.hparams.finetuning_args import FinetuningArguments
    from transformers import HfArgumentParser

    (found,) = HfArgumentParser(FinetuningArguments).parse_dict(yaml.safe_load(text))
    assert found.lora_target != ["all"]
    return {
        "r": found.lora_rank,
        "lora_alpha": found.lora_alpha,
        "lora_dropout": found.lora_dropout,
        "use_rslora": found.use_rslora,
        "target_modules": found.lora_target,
    }


def verl(text: str, **_: Any) -> dict[str, Any]:
    """Hydra's parser of overrides; verl/workers/engine/fsdp/transformer_impl.py hands them on to PEFT."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = OverridesParser.create().parse_overrides(shlex.split(text.replace("\\\n", " ")))
    found = {override.key_or_group.rpartition(".")[2]: override.value() for override in overrides}
    plain = {key: [str(item) for item in value] if isinstance(value, list) else value for key, value in found.items()}
    targets = plain["target_modules"]
    return {
        "r": plain["lora_rank"],
        "lora_alpha": plain["lora_alpha"],
        "target_modules": targets if isinstance(targets, list) else getattr(targets, "text", targets),
        "target_parameters": plain.get("target_parameters"),
        "keys": sorted(found),
        "added": sorted(o.key_or_group.rpartition(".")[2] for o in overrides if o.is_add()),
    }


def mlx_lm(text: str, model_type: str, config: dict[str, Any]) -> dict[str, Any]:
    """The module paths of mlx-lm's own model that `linear_to_lora_layers` makes LoRA layers of."""
    from importlib import import_module

    import transformers as hf
    from mlx_lm.tuner.lora import LoRALinear
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import MODEL_REMAPPING

    module = import_module(f"mlx_lm.models.{MODEL_REMAPPING.get(model_type, model_type)}")
    values = {"rope_theta": 1e4} | hf.AutoConfig.for_model(model_type, **config).to_dict()
    model = module.Model(module.ModelArgs.from_dict(values))
    found = yaml.safe_load(text)
    model.freeze()
    linear_to_lora_layers(model, found["num_layers"], found["lora_parameters"])
    layers = {
        f"model.layers.{number}.{path}": child
        for number, layer in enumerate(model.layers)
        for path, child in layer.named_modules()
        if isinstance(child, LoRALinear)
    }
    return {
        "adapted": sorted(layers),
        "scale": next(iter(layers.values())).scale,
        "parameters": sum(layer.lora_a.size + layer.lora_b.size for layer in layers.values()),
    }


def nemo_automodel(text: str, model_type: str, config: dict[str, Any]) -> dict[str, Any]:
    """The modules that AutoModel puts adapters on, and how many parameters they have."""
    import transformers as hf
    from nemo_automodel.components._peft.lora import PeftConfig, apply_lora_to_linear_modules

    section = yaml.safe_load(text)["peft"]
    assert section.pop("_target_") == f"{PeftConfig.__module__}.{PeftConfig.__name__}"
    model = hf.AutoModelForCausalLM.from_config(hf.AutoConfig.for_model(model_type, **config))
    apply_lora_to_linear_modules(model, PeftConfig(**section, use_memory_efficient_lora=False))
    lora = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        "adapted": sorted({re.sub(r"\.lora_[AB]\.weight$", "", name) for name in lora}),
        "scale": section["alpha"] / section["dim"],
        "parameters": sum(p.numel() for p in lora.values()),
    }


def peft(text: str, model_type: str, config: dict[str, Any]) -> dict[str, Any]:
    """The parameters that this release of PEFT trains."""
    sys.modules["torchao"] = None  # type: ignore[assignment]  # newer than this PEFT expects
    import peft as package
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_config(hf.AutoConfig.for_model(model_type, **config))
    keywords = {key: value for key, value in json.loads(text).items() if key != "peft_type"}
    tuned = package.get_peft_model(model, package.LoraConfig(**keywords))
    return {"version": package.__version__, "parameters": tuned.get_nb_trainable_parameters()[0]}


if __name__ == "__main__":
    reader = globals()[sys.argv[1].replace("-", "_")]
    sys.stdout.write(json.dumps(reader(**json.load(sys.stdin))))
