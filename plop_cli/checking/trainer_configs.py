"""The YAML of axolotl, LLaMA-Factory, torchtune, ms-swift, TRL, verl, mlx-lm and NeMo AutoModel.

Each is known by keys that it alone has, and says what it asks for in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plop_cli.checking.wanted import ALL, Finding, Values, Wanted
from plop_cli.errors import PlopError

Keys = Mapping[str, Any]


def axolotl(source: str, keys: Keys) -> Wanted:
    """axolotl/loaders/adapter.py: _build_peft_lora_config."""
    values = Values(source, keys)
    if values.get("adapter", str, "lora") not in ("lora", "qlora"):
        raise PlopError(f"{source}: adapter is {keys['adapter']!r}, and check knows lora and qlora")
    layers = values.get("peft_layers_to_transform", list)
    targets = ALL if values.flag("lora_target_linear") else values.targets("lora_target_modules")
    if not targets and not keys.get("lora_target_parameters"):
        raise PlopError(f"{source} names no target; give lora_target_modules, or lora_target_linear: true")
    return Wanted(
        source=source,
        format="axolotl",
        targets=targets,
        parameters=values.names("lora_target_parameters"),
        rank=values.whole("lora_r", 8),
        alpha=values.number("lora_alpha"),
        rslora=values.flag("peft_use_rslora"),
        dora=values.flag("peft_use_dora"),
        dropout=values.number("lora_dropout") or 0.0,
        modules_to_save=values.names("lora_modules_to_save"),
        exclude=values.targets("lora_exclude_modules"),
        layers=None if layers is None else tuple(layers),
        layers_pattern=values.names("peft_layers_pattern"),
        rank_pattern=values.get("lora_rank_pattern", dict, {}),
        base=values.get("base_model", str),
        findings=values.strangers(
            (
                *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters"),
                *("lora_target_linear", "lora_modules_to_save", "lora_exclude_modules", "lora_model_dir", "adapter"),
                *("peft_use_rslora", "peft_use_dora", "peft_layers_to_transform", "lora_fan_in_fan_out", "base_model"),
            ),
            "axolotl",
        ),
        keys=keys,
    )


def llamafactory(source: str, keys: Keys) -> Wanted:
    """llamafactory/hparams/finetuning_args.py; model/adapter.py: _setup_lora_tuning."""
    values = Values(source, keys)
    if values.get("finetuning_type", str, "lora") != "lora":
        raise PlopError(f"{source}: finetuning_type is {keys['finetuning_type']!r}, and check knows lora")
    targets = tuple(name.strip() for name in values.get("lora_target", str, "all").split(","))
    saved = values.get("additional_target", str, "")
    return Wanted(
        source=source,
        format="llamafactory",
        targets=ALL if targets == ("all",) else targets,
        rank=values.whole("lora_rank", 8),
        alpha=values.number("lora_alpha"),
        rslora=values.flag("use_rslora"),
        dora=values.flag("use_dora"),
        dropout=values.number("lora_dropout") or 0.0,
        task_type="CAUSAL_LM",
        modules_to_save=tuple(name.strip() for name in saved.split(",") if name),
        base=values.get("model_name_or_path", str),
        findings=values.strangers(
            (
                *("finetuning_type", "lora_target", "lora_rank", "lora_alpha", "lora_dropout", "use_rslora"),
                *("use_dora", "additional_target", "model_name_or_path"),
            ),
            "LLaMA-Factory",
            "error",  # its parser refuses what it does not know
        ),
        keys=keys,
    )


def trl(source: str, keys: Keys) -> Wanted:
    """trl/trainer/model_config.py: a single target becomes a string, which PEFT reads as a regex."""
    values = Values(source, keys)
    names = values.names("lora_target_modules")
    used = [] if values.flag("use_peft") else [Finding("error", "no-lora", NO_PEFT)]
    return Wanted(
        source=source,
        format="trl",
        targets=names[0] if len(names) == 1 else names,
        parameters=values.names("lora_target_parameters"),
        rank=values.whole("lora_r", 16),
        alpha=values.number("lora_alpha", 32),
        rslora=values.flag("use_rslora"),
        dora=values.flag("use_dora"),
        dropout=values.number("lora_dropout", 0.05) or 0.0,
        task_type=values.get("lora_task_type", str, "CAUSAL_LM"),
        modules_to_save=values.names("lora_modules_to_save"),
        base=values.get("model_name_or_path", str),
        findings=(*used, *values.strangers(TRL, "TRL", "error")),
        keys=keys,
    )


NO_PEFT = "TRL trains the whole model, without LoRA, where use_peft is not set; set it"
TRL = (
    *("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters"),
    *("lora_modules_to_save", "lora_task_type", "use_rslora", "use_dora", "model_name_or_path"),
)


def swift(source: str, keys: Keys) -> Wanted:
    """swift/arguments/tuner_args.py: target_regex takes the place of target_modules."""
    values = Values(source, keys)
    names = values.names("target_modules") or (ALL,)
    task = values.get("task_type", str, "")
    return Wanted(
        source=source,
        format="ms-swift",
        targets=values.get("target_regex", str) or (ALL if ALL in names else names),
        parameters=values.names("target_parameters"),
        rank=values.whole("lora_rank", 8),
        alpha=values.number("lora_alpha", 32),
        rslora=values.flag("use_rslora"),
        dora=values.flag("use_dora"),
        dropout=values.number("lora_dropout", 0.05) or 0.0,
        task_type={"causal_lm": "CAUSAL_LM", "seq_cls": "SEQ_CLS"}.get(task),
        modules_to_save=values.names("modules_to_save"),
        base=values.get("model", str),
        findings=values.strangers(SWIFT, "ms-swift", "error"),
        keys=keys,
    )


SWIFT = (
    *("tuner_type", "train_type", "lora_rank", "lora_alpha", "lora_dropout", "target_modules", "target_regex"),
    *("target_parameters", "modules_to_save", "use_rslora", "use_dora", "task_type", "model", "model_type"),
)


def torchtune(source: str, keys: Keys) -> Wanted:
    """The `model` section: attention projections one by one, the feed-forward block as a whole."""
    values = Values(source, keys["model"])
    theirs = {"output_proj": "o_proj"}
    names = [theirs.get(name, name) for name in values.names("lora_attn_modules")]
    names += ["gate_proj", "up_proj", "down_proj"] if values.flag("apply_lora_to_mlp") else []
    names += ["lm_head"] if values.flag("apply_lora_to_output") else []
    return Wanted(
        source=source,
        format="torchtune",
        targets=tuple(names),
        rank=values.whole("lora_rank", 8),
        alpha=values.number("lora_alpha"),
        dora=values.flag("use_dora"),
        findings=values.strangers(
            ("lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_rank", "lora_alpha"),
            "torchtune",
            "error",
        ),
        keys=keys,
    )


def verl(source: str, keys: Keys) -> Wanted:
    """verl/workers/config/model.py, for its FSDP engine."""
    section = keys.get("actor_rollout_ref", keys)["model"]
    values = Values(source, section)
    return Wanted(
        source=source,
        format="verl",
        targets=values.targets("target_modules") or ALL,
        parameters=values.names("target_parameters"),
        rank=values.whole("lora_rank", 8),
        alpha=values.number("lora_alpha", 16),
        task_type="CAUSAL_LM",
        exclude=values.targets("exclude_modules"),
        base=values.get("path", str),
        findings=values.strangers(
            ("lora_rank", "lora_alpha", "target_modules", "target_parameters", "exclude_modules", "path"),
            "verl",
            "error",
        ),
        keys=keys,
    )


def mlx_lm(source: str, keys: Keys) -> Wanted:
    """mlx_lm/tuner/utils.py: `keys` are paths inside of a block, None all; `num_layers` the last blocks, -1 all."""
    values = Values(source, keys.get("lora_parameters") or {})
    last = keys.get("num_layers", 16)
    if not isinstance(last, int):
        raise PlopError(f"{source}: num_layers is {last!r}; give a whole number, -1 for all")
    return Wanted(
        source=source,
        format="mlx-lm",
        targets=values.names("keys") or ALL,
        rank=values.whole("rank", 8),
        alpha=(values.number("scale", 20.0) or 0.0) * values.whole("rank", 8),
        dropout=values.number("dropout") or 0.0,
        layers=(-last,) if last > 0 else None,
        base=keys.get("model") if isinstance(keys.get("model"), str) else None,
        findings=values.strangers(("keys", "rank", "scale", "dropout"), "mlx-lm"),
        keys=keys,
    )


def nemo_automodel(source: str, keys: Keys) -> Wanted:
    """The `peft` section: module paths with wildcards."""
    values = Values(source, keys["peft"])
    model = keys.get("model")
    return Wanted(
        source=source,
        format="nemo-automodel",
        targets=ALL if values.flag("match_all_linear") else values.names("target_modules") or ("*_proj",),
        rank=values.whole("dim", 8),
        alpha=values.number("alpha", 32),
        dora=values.flag("use_dora"),
        dropout=values.number("dropout") or 0.0,
        exclude=values.names("exclude_modules"),
        base=model.get("pretrained_model_name_or_path") if isinstance(model, dict) else None,
        findings=values.strangers(
            ("target_modules", "exclude_modules", "match_all_linear", "dim", "alpha", "use_dora", "dropout"),
            "NeMo AutoModel",
            "error",
        ),
        keys=keys,
    )


READERS = {
    "axolotl": axolotl,
    "llamafactory": llamafactory,
    "trl": trl,
    "ms-swift": swift,
    "torchtune": torchtune,
    "verl": verl,
    "mlx-lm": mlx_lm,
    "nemo-automodel": nemo_automodel,
}


def trainer_of(keys: Keys) -> str | None:
    """Whose config this is, by the keys that one trainer alone has."""
    has = keys.keys()
    model = keys.get("model")
    inner = model if isinstance(model, dict) else {}
    if isinstance(keys.get("actor_rollout_ref"), dict) and isinstance(keys["actor_rollout_ref"].get("model"), dict):
        return "verl"
    if "lora_attn_modules" in inner or str(inner.get("_component_", "")).startswith("torchtune"):
        return "torchtune"
    if inner.keys() & {"lora_rank", "target_modules"}:
        return "verl"
    if isinstance(keys.get("peft"), dict) and keys["peft"].keys() & {"_target_", "dim", "target_modules"}:
        return "nemo-automodel"
    if "model_name_or_path" in has and "lora_rank" not in has and has & {"lora_r", "lora_target_modules"}:
        return "trl"  # axolotl calls it base_model
    return next((trainer for trainer, marks in _MARKS.items() if has & marks), None)


_MARKS = {
    "trl": {"use_peft", "lora_task_type"},
    "llamafactory": {"finetuning_type", "lora_target"},
    "mlx-lm": {"lora_parameters"},
    "axolotl": {"lora_r", "lora_target_modules", "lora_target_linear", "adapter"},
    "ms-swift": {"target_regex", "tuner_type", "train_type", "lora_rank"},
}
