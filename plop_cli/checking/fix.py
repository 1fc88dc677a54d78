"""A config written again: names that hit nothing left out, and what was meant and missed put in, as PEFT needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from plop_cli.checking.body import Body
from plop_cli.checking.check import reached
from plop_cli.checking.findings import EXPERT_NAMES
from plop_cli.checking.flags import read_keys
from plop_cli.checking.wanted import ALL, Wanted
from plop_cli.errors import PlopError
from plop_cli.method.choice import Choice
from plop_cli.placement.placement import Placement
from plop_cli.placement.ranks import Linear
from plop_cli.placement.refused import refused
from plop_cli.placement.targets import hits
from plop_cli.placement.trainers.export import FORMATS, export

_SAID_BY_NAMES = {"layers_to_transform", "layers_pattern", "exclude_modules", "lora_target_linear", "target_regex"}
_SAID_BY_NAMES |= {"peft_layers_to_transform", "peft_layers_pattern", "lora_exclude_modules"}


def fixed(wanted: Wanted, body: Body) -> str:
    """The config that adapts what this one means, and nothing else; keys that say nothing of LoRA stay as they are.

    Left out are names that hit nothing, modules of towers and routers that a name of the text's modules hits too, and
    what PEFT refuses; the experts are put in where their names were asked for. PlopError where nothing is left.
    """
    modules = _meant(wanted, body)
    if not modules:
        raise PlopError(f"{wanted.source} has no name that hits a module of {body.architecture}; choose others")
    alpha = 2 * wanted.rank if wanted.alpha is None else round(wanted.alpha)
    placement = Placement(
        model="",
        architecture=body.architecture,
        tasks=(),
        choice=Choice({}, []),
        modules=tuple(modules),
        names=body.names,
        stacks=body.stacks,
        rank=wanted.rank,
        alpha=alpha,
        rslora=wanted.rslora,
    )
    text = export(placement, wanted.format if wanted.format in FORMATS else "peft").text
    if not wanted.keys or wanted.format in ("python", "unsloth"):
        return text
    kept = {key: value for key, value in wanted.keys.items() if key not in _SAID_BY_NAMES}
    whole = _merged(kept, _keys(text, wanted))
    if wanted.format == "peft":
        if placement.target_parameters:
            whole["lora_dropout"] = 0.0
        return json.dumps(whole, indent=2, default=_plain) + "\n"
    if wanted.source.endswith((".yaml", ".yml")):
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    return text


def _meant(wanted: Wanted, body: Body) -> list[Linear]:
    known: dict[str, Linear] = {}
    for module in body.modules:
        known.setdefault(module.place, Linear(module.name, module.type, module.in_features, module.out_features))
    asked: set[str] = set()
    for target, names in reached(wanted, body).items():
        inside = [name for name in names if name in known]
        asked |= set(inside or (names if target != ALL else ()))
    asked -= set(refused(body.architecture, asked))
    targets = () if isinstance(wanted.targets, str) else wanted.targets
    if wanted.targets == ALL or {target.rpartition(".")[2] for target in targets} & EXPERT_NAMES:
        asked |= set(body.stacks)
    asked |= set(hits(wanted.parameters, body.stacks))
    order = (*body.names, *body.stacks)
    return [known.get(name, Linear(name, name.rpartition(".")[2], 0, 0)) for name in order if name in asked]


def _keys(text: str, wanted: Wanted) -> Mapping[str, Any]:
    """What an export says, as keys."""
    if wanted.format == "peft":
        return dict(json.loads(text))
    if wanted.format in ("trl", "ms-swift", "verl"):
        keys = read_keys(text)
        return {"actor_rollout_ref": keys} if "actor_rollout_ref" in wanted.keys else keys
    return dict(yaml.safe_load(text))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old keys with the new ones in their place, section by section."""
    both = dict(old)
    for key, value in new.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(getattr(value, "value", value))
