"""PEFT: `adapter_config.json`, or the folder of an adapter; the keywords of a `LoraConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plop_cli.checking.wanted import Values, Wanted
from plop_cli.errors import PlopError

_KEYS = """\
alora_invocation_tokens alpha_pattern arrow_config auto_mapping base_model_name_or_path bias corda_config
ensure_weight_tying eva_config exclude_modules fan_in_fan_out inference_mode init_lora_weights kasa_config
layer_replication layers_pattern layers_to_transform loftq_config lora_alpha lora_bias lora_dropout lora_ga_config
megatron_config megatron_core modules_to_save monteclora_config peft_type peft_version qalora_group_size r
rank_pattern revision runtime_config target_modules target_parameters task_type trainable_token_indices use_bdlora
use_dora use_qalora use_rslora velora_config"""
KEYS = frozenset(_KEYS.split())
"""All that a `LoraConfig` has, as of PEFT 0.21."""


def read(source: str, keys: Mapping[str, Any], format: str = "peft") -> Wanted:
    """What the configuration asks for. PlopError where it is none of LoRA."""
    values = Values(source, keys)
    kind = str(getattr(values.all.get("peft_type"), "value", values.all.get("peft_type", "LORA")))
    if kind not in ("LORA", "ADALORA"):
        raise PlopError(f"{source} is a config of PEFT's {kind}, and check knows LoRA alone")
    layers = values.get("layers_to_transform", (int, list))
    task = values.all.get("task_type")
    return Wanted(
        source=source,
        format=format,
        targets=values.targets("target_modules"),
        parameters=values.names("target_parameters"),
        rank=values.whole("r", 8),
        alpha=values.number("lora_alpha"),
        rslora=values.flag("use_rslora"),
        dora=values.flag("use_dora"),
        dropout=values.number("lora_dropout") or 0.0,
        task_type=None if task is None else str(getattr(task, "value", task)).rpartition(".")[2],
        modules_to_save=values.names("modules_to_save"),
        exclude=values.targets("exclude_modules"),
        layers=None if layers is None else tuple([layers] if isinstance(layers, int) else layers),
        layers_pattern=values.names("layers_pattern"),
        rank_pattern=values.get("rank_pattern", dict, {}),
        base=values.get("base_model_name_or_path", str),
        findings=values.strangers(KEYS, "PEFT"),
        keys=keys,
    )
