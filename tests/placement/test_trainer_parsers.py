"""Exports, read by the trainers' own code (`make trainers`): they take the file, and adapt exactly what plop says."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, HfArgumentParser

import trainers
from plop_cli.network.modules import linear_modules
from plop_cli.placement.placement import Placement
from plop_cli.placement.recommend import recommend
from plop_cli.placement.trainers.export import FORMATS, export
from plop_cli.placement.trainers.mlx_lm import MODELS
from trainers import HELD, OLD_PEFT, fields, named, parameters, read, source

pytestmark = pytest.mark.usefixtures("one_thread")

COMMON = {"vocab_size": 257, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
COMMON |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "max_position_embeddings": 256}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": COMMON,
    "phi3": COMMON,
    "mixtral": COMMON | {"num_local_experts": 4},
    "gpt2": {"vocab_size": 257, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256},
}


@functools.cache
def original(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **CONFIGS.get(name, COMMON)))


def placement_of(name: str, **wish: Any) -> Placement:
    return recommend(model=original(name), **wish)


def some_layers(placement: Placement) -> Placement:
    """The first and the last layer of each type: what no list of endings can say."""
    return replace(placement, modules=tuple(m for m in placement.modules if ".1." not in m.name))


PLACEMENTS = {
    "a list": placement_of("qwen2", targets=["v_proj", "o_proj"], rank=4, alpha=9),
    "one name": placement_of("qwen2", targets=["down_proj"], rank=4),
    "rslora": placement_of("qwen2", targets=["q_proj", "up_proj"], rank=4, rslora=True),
    "some layers": some_layers(placement_of("qwen2", targets=["v_proj", "up_proj"])),
    "GPT-2": placement_of("gpt2", targets=["attn.c_proj", "c_fc"]),
    "experts": placement_of("mixtral", targets=["v_proj", "gate_up_proj"]),
    "experts alone": placement_of("mixtral", targets=["gate_up_proj", "down_proj"]),
}
EXPERTS = [name for name in PLACEMENTS if name.startswith("experts")]


def trained_by_peft(placement: Placement, arguments: dict[str, Any]) -> tuple[set[str], int]:
    """What real PEFT adapts with these arguments: modules by name, and parameters."""
    name = next(name for name in CONFIGS if type(original(name)).__name__ == placement.architecture)
    model = peft.get_peft_model(copy.deepcopy(original(name)), peft.LoraConfig(**arguments))
    found = set()
    for path, module in model.base_model.model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            place, parameter = path.replace(".base_layer", ""), getattr(module, "parameter_name", "weight")
            found.add(place if parameter == "weight" else f"{place}.{parameter}")
    return found, model.get_nb_trainable_parameters()[0]


def holds(placement: Placement, arguments: dict[str, Any]) -> None:
    assert arguments["r"] == placement.rank
    assert trained_by_peft(placement, arguments) == (set(placement.matched_modules), placement.trainable_parameters)
    root = placement.rank**0.5 if placement.rslora else 1
    scaled = arguments["lora_alpha"] * (placement.rank**0.5 if arguments.get("use_rslora") else 1)
    assert scaled == placement.alpha * root


@pytest.mark.slow
@pytest.mark.parametrize("format", ["axolotl", "llamafactory", "verl"])
@pytest.mark.parametrize("case", PLACEMENTS)
def test_the_trainer_s_own_code_reads_exactly_the_placement(format: str, case: str) -> None:
    if format == "llamafactory" and case in EXPERTS:
        pytest.skip("it has no word for experts")
    found = read(format, text=export(PLACEMENTS[case], format).text)
    if format == "verl":
        known = fields(named(source("verl/workers/config/model.py"), "HFModelConfig"))
        assert set(found.pop("keys")) <= known
        in_yaml = (trainers.HOME / "verl/trainer/config/model/hf_model.yaml").read_text()
        absent = {key for key in known if not re.search(rf"^{key}:", in_yaml, re.MULTILINE)}
        assert set(found.pop("added")) <= absent, "Hydra adds what is not there, and overrides what is"
    holds(PLACEMENTS[case], found)


MLX = {"Gemma3": "gemma3_text", "HunYuanDenseV1": "hunyuan_v1_dense", "SeedOss": "seed_oss", "Ernie4_5": "ernie4_5"}
FAMILIES = {family: MLX.get(family, family.lower()) for family in sorted(MODELS)}
WIDE = COMMON | {"head_dim": 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "model_type"),
    [*(("mlx-lm", kind) for kind in FAMILIES.values()), ("nemo-automodel", "qwen2"), ("nemo-automodel", "phi3")],
)
def test_the_trainer_s_own_code_adapts_exactly_the_placement(format: str, model_type: str) -> None:
    """Every second type, the others, and the last layer of one."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **WIDE))
    kinds = sorted({module.type for module in linear_modules(model)[0]})
    whole = [
        recommend(model=model, targets=types, rank=4, rslora=types is kinds)
        for types in (kinds[::2], kinds[1::2], kinds)
    ]
    last = replace(whole[0], modules=tuple(m for m in whole[0].modules if ".2." in m.name))
    for placement in (*whole, last):
        found = read(format, text=export(placement, format).text, model_type=model_type, config=WIDE)
        assert found["adapted"] == sorted(placement.matched_modules)
        assert found["parameters"] == placement.trainable_parameters
        assert found["scale"] == placement.alpha / (placement.rank**0.5 if placement.rslora else placement.rank)


@pytest.mark.slow
@pytest.mark.parametrize("case", PLACEMENTS)
def test_the_oldest_peft_takes_it_too(case: str) -> None:
    placement = PLACEMENTS[case]
    name = next(name for name in CONFIGS if type(original(name)).__name__ == placement.architecture)
    found = read("peft", home=OLD_PEFT, text=export(placement, "peft").text, model_type=name, config=CONFIGS[name])
    assert found == {"version": "0.18.0", "parameters": placement.trainable_parameters}


@pytest.mark.parametrize("case", PLACEMENTS)
@pytest.mark.parametrize("format", ["ms-swift", "unsloth"])
def test_every_flag_is_in_the_source_of_the_trainer(format: str, case: str) -> None:
    """ms-swift's dataclass as its source has it, in transformers' parser; the signature of Unsloth's get_peft_model."""
    placement = PLACEMENTS[case]
    text = export(placement, format).text
    if format == "unsloth":
        call: Any = ast.parse(text).body[-1].value  # type: ignore[attr-defined]
        found = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        function = named(named(source("unsloth/models/llama.py"), "FastLlamaModel"), "get_peft_model")
        assert found.keys() <= parameters(function)
        assert ("target_parameters" in found) == bool(placement.stacks), "else it adds experts by itself"
        holds(placement, found)
        return
    (found,) = HfArgumentParser(swift_arguments()).parse_args_into_dataclasses(shlex.split(text.replace("\\\n", " ")))
    arguments = {
        "r": found.lora_rank,
        "lora_alpha": found.lora_alpha,
        "lora_dropout": found.lora_dropout,
        "use_rslora": found.use_rslora,
        "target_modules": found.target_regex or found.target_modules,
        **({"target_parameters": found.target_parameters} if found.target_parameters is not None else {}),
    }
    holds(placement, arguments)


def swift_arguments() -> Any:
    """ms-swift's `TunerArguments` with its fields and without its methods, which need a model."""
    found = named(source("swift/arguments/tuner_args.py"), "TunerArguments")
    found.body = [node for node in found.body if isinstance(node, ast.AnnAssign)]
    names: dict[str, Any] = {"dataclass": dataclasses.dataclass, "field": dataclasses.field}
    exec("from typing import List, Literal, Optional", names)
    exec(compile(ast.Module([found], []), "tuner_args.py", "exec", dont_inherit=True), names)
    return names["TunerArguments"]


def test_torchtune_s_builders_take_the_keys() -> None:
    tree = source("torchtune/models/qwen2/_model_builders.py")
    found = yaml.safe_load(export(PLACEMENTS["a list"], "torchtune").text)["model"]
    assert found.keys() <= parameters(named(tree, "lora_qwen2_7b"))
    peft_utils = (Path(trainers.HOME) / "torchtune/modules/peft/_utils.py").read_text()
    allowed = re.search(r"LORA_ATTN_MODULES = Literal\[([^\]]+)\]", peft_utils)
    assert allowed
    assert all(f'"{name}"' in allowed[1] for name in found["lora_attn_modules"])


def test_every_format_is_held_to_its_trainer_and_the_page_says_how() -> None:
    """python tests/support/trainers.py > docs/trainers.md"""
    assert tuple(HELD) == FORMATS
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert [test for held in HELD.values() for test in held.tests if f"def {test}(" not in tests] == []
    assert (trainers.ROOT / "docs/trainers.md").read_text() == trainers.document()


def test_what_is_installed_is_what_the_page_says() -> None:
    trainers.needed()
    for package, version in trainers.versions().items():
        folder = f"{package.replace('-', '_')}-{version}.dist-info"
        assert package in ("peft", "trl") or (trainers.HOME / folder).is_dir(), folder
