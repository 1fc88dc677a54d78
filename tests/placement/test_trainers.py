"""Exports, read back the way the trainers read them: they adapt exactly what plop says, or plop refuses.

The sources that the readers here were written from (PyPI wheels, read in November 2026):
axolotl 0.19.0, llamafactory 0.9.5, ms-swift 4.6.0, torchtune 0.6.1, trl 1.16.0, unsloth 2026.10.9, peft 0.21.2.
"""

from __future__ import annotations

import ast
import copy
import functools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

import plop_cli
import real_model
from plop_cli import PlopError
from plop_cli.network.modules import linear_modules
from plop_cli.placement.placement import Placement
from plop_cli.placement.recommend import recommend
from plop_cli.placement.refused import refused
from plop_cli.placement.sentences import sentences
from plop_cli.placement.targets import hits
from plop_cli.placement.trainers.export import FORMATS, export
from small_models import byte_tokenizer

peft = pytest.importorskip("peft")

SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "gpt_neox": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "phi3": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
    },
    "qwen2": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
}
EXPERTS = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {
    "mixtral": EXPERTS | {"intermediate_size": 48, "num_key_value_heads": 1, "num_local_experts": 4},
    "deepseek_v3": EXPERTS
    | {
        "intermediate_size": 64,
        "moe_intermediate_size": 24,
        "num_key_value_heads": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
    },
    "gpt_oss": EXPERTS | {"intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 16, "num_local_experts": 4},
}
PLACEMENTS: dict[str, list[dict[str, Any]]] = {
    "smollm2": [{"targets": ["v_proj", "up_proj", "down_proj"]}],
    "gpt2": [{"targets": ["attn.c_proj", "c_fc"]}, {"targets": ["attn.c_proj", "mlp.c_proj"], "rslora": True}],
    "gpt_neox": [{"targets": ["dense", "dense_4h_to_h"]}, {"targets": ["query_key_value"]}],
    "phi3": [{"targets": ["qkv_proj", "gate_up_proj"]}, {"targets": ["o_proj"]}],
    "qwen2": [{"targets": ["v_proj", "o_proj", "down_proj"], "rank": 3, "alpha": 5}],
    "mixtral": [{"targets": ["v_proj", "down_proj"]}, {"targets": ["gate_up_proj"]}, {"targets": ["q_proj"]}],
    "deepseek_v3": [
        {"targets": ["kv_b_proj", "mlp.down_proj", "shared_experts.up_proj"]},
        {"targets": ["experts.down_proj", "shared_experts.down_proj"]},
    ],
    "gpt_oss": [{"targets": ["gate_up_proj", "v_proj"], "rslora": True}],
}
CASES = [(name, number) for name, placements in PLACEMENTS.items() for number in range(len(placements))]


@functools.cache
def original(name: str) -> Any:
    if name == "smollm2":
        return real_model.smollm2()[0]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{"vocab_size": 257} | SMALL[name]))


def model_of(name: str) -> Any:
    """A model of the test's own, as PEFT changes it in place."""
    return copy.deepcopy(original(name))


def placement_of(name: str, **wish: Any) -> Placement:
    return recommend(model=original(name), **wish)


def by_module(name: str) -> Placement:
    """Modules that no list of endings can say: two of the layers of one type, by a regex."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(name, vocab_size=257, **SMALL[name] | {"num_hidden_layers": 3, "n_layer": 3})
    )
    placement = recommend(targets=["c_fc" if name == "gpt2" else "up_proj"], model=model)
    fewer = {**vars(placement), "modules": placement.modules[::2]}
    return Placement(**{name: value for name, value in fewer.items() if name in Placement.__dataclass_fields__})


def from_adapter_config(placement: Placement, folder: Path) -> Any:
    (folder / "adapter_config.json").write_text(export(placement, "peft").text)
    return peft.PeftConfig.from_pretrained(str(folder))


def from_python(placement: Placement, folder: Path) -> Any:
    text = export(placement, "python").text
    found: dict[str, Any] = {"model": None, "get_peft_model": lambda model, config: config}
    exec(text.replace("from peft import LoraConfig, get_peft_model", "from peft import LoraConfig"), found)
    return found["config"]


def from_lora_config(placement: Placement, folder: Path) -> Any:
    return placement.lora_config()


def adapted(model: Any) -> set[str]:
    """The modules that PEFT has put an adapter on, by their names in the model without it."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            place = name.removeprefix("base_model.model.").replace(".base_layer", "")
            parameter = getattr(module, "parameter_name", "weight")
            found.add(place if parameter == "weight" else f"{place}.{parameter}")
    return found


# PEFT


@pytest.mark.parametrize("read", [from_adapter_config, from_python, from_lora_config])
@pytest.mark.parametrize(("name", "number"), CASES)
def test_real_peft_adapts_exactly_the_listed_modules_with_the_predicted_parameters(
    name: str, number: int, read: Callable[[Placement, Path], Any], tmp_path: Path
) -> None:
    placement = placement_of(name, **PLACEMENTS[name][number])
    config = read(placement, tmp_path)
    model = peft.get_peft_model(model_of(name), config)
    assert adapted(model) == set(placement.matched_modules)
    assert model.get_nb_trainable_parameters()[0] == placement.trainable_parameters
    assert (config.r, config.lora_alpha, config.use_rslora) == (placement.rank, placement.alpha, placement.rslora)
    assert config.task_type == "CAUSAL_LM"


@pytest.mark.parametrize(("name", "number"), CASES)
def test_apply_trains_the_adapters_alone_and_they_can_be_saved_and_loaded(
    name: str, number: int, tmp_path: Path
) -> None:
    placement = placement_of(name, **PLACEMENTS[name][number])
    model = placement.apply(model_of(name))
    assert adapted(model) == set(placement.matched_modules)
    assert model.get_nb_trainable_parameters()[0] == placement.trainable_parameters

    tokens = torch.arange(1, 9)[None]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # in the first step A has no gradient yet, as B is zero
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if ".lora_A." in name or ".lora_B." in name}
    assert len(changed) == 2 * len(placement.matched_modules)

    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model.eval()(input_ids=tokens).logits
        again = peft.PeftModel.from_pretrained(model.unload(), tmp_path).eval()
        assert torch.equal(again(input_ids=tokens).logits, expected)
    header = int.from_bytes((tmp_path / "adapter_model.safetensors").read_bytes()[:8], "little")
    on_disk = (tmp_path / "adapter_model.safetensors").stat().st_size - 8 - header
    assert on_disk == placement.to_dict()["adapter_bytes"]


def test_from_scores_to_an_adapted_model_in_three_lines() -> None:
    model, texts = model_of("qwen2"), [f"{i} and {i * i}" for i in range(10)]
    placement = plop_cli.recommend(plop_cli.score(model, byte_tokenizer(), texts, max_length=9), types=3, rank=4)
    adapted_model = placement.apply(model)
    assert isinstance(placement, plop_cli.Placement)
    assert {name.rpartition(".")[2] for name in adapted(adapted_model)} == set(placement.choice.chosen)
    assert adapted_model.get_nb_trainable_parameters()[0] == placement.trainable_parameters


def test_the_same_bare_name_elsewhere_is_left_alone() -> None:
    """GPT-2 has two c_proj; PEFT given `c_proj` would adapt both."""
    placement = placement_of("gpt2", targets=["attn.c_proj"])
    assert placement.targets == ("attn.c_proj",)
    names = [name for name, _ in original("gpt2").named_modules()]
    assert len(hits(["c_proj"], names)) == 4
    assert hits(placement.targets, names) == placement.matched_modules


def test_hits_is_peft_s_own_rule() -> None:
    from peft.tuners.tuners_utils import check_target_module_exists

    names = [name for model in SMALL for name, _ in original(model).named_modules() if name]
    for targets in (["c_proj"], ["attn.c_proj"], ["dense"], r".*\.layers\.\d+\.self_attn\.[qv]_proj", "v_proj", ["j"]):
        config = peft.LoraConfig(target_modules=targets)
        assert hits(targets, names) == [name for name in names if check_target_module_exists(config, name)]


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_single_modules_are_said_by_one_regex_that_peft_reads_so(name: str, tmp_path: Path) -> None:
    placement = by_module(name)
    assert isinstance(placement.targets, str)
    for config in (from_adapter_config(placement, tmp_path), from_python(placement, tmp_path)):
        assert config.target_modules == placement.targets
    assert sorted(hits(placement.targets, placement.names)) == sorted(placement.matched_modules)


def test_a_classifier_is_told_to_peft_as_one() -> None:
    config = AutoConfig.for_model("qwen2", vocab_size=257, **SMALL["qwen2"])
    placement = recommend(targets=["v_proj"], model=AutoModelForSequenceClassification.from_config(config))
    assert placement.lora_config().task_type == "SEQ_CLS"
    assert "--lora_task_type SEQ_CLS" in export(placement, "trl").text


def test_another_model_than_the_placement_s_is_refused_and_left_as_it_is() -> None:
    model = model_of("gpt2")
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(PlopError, match="2 modules of a Qwen2ForCausalLM, and this GPT2LMHeadModel has 0 that fit"):
        placement_of("qwen2", targets=["v_proj"]).apply(model)
    assert [name for name, _ in model.named_modules()] == before


def test_without_peft_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(PlopError, match=r"not installed; pip install 'plop-cli\[peft\]'"):
        placement_of("qwen2", targets=["v_proj"]).lora_config()


# The other trainers


QWEN = {"targets": ["v_proj", "o_proj"], "rank": 4, "alpha": 9}


def flags(text: str) -> dict[str, list[str]]:
    """--name value value … of a command line, as the shell and argparse split it."""
    found: dict[str, list[str]] = {}
    for word in shlex.split(text.replace("\\\n", " ")):
        if word.startswith("--"):
            values = found.setdefault(word.removeprefix("--"), [])
        else:
            values.append(word)
    return found


def test_axolotl_reads_its_documented_keys() -> None:
    """AxolotlConfig's LoRA keys: axolotl/utils/schemas/peft.py; given to LoraConfig in axolotl/loaders/adapter.py."""
    known = {"adapter", "lora_r", "lora_alpha", "lora_target_modules", "peft_use_rslora", "lora_dropout"}
    for placement in (
        placement_of("qwen2", **QWEN),
        placement_of("gpt2", targets=["c_fc"], rslora=True),
        by_module("qwen2"),
    ):
        found = yaml.safe_load(export(placement, "axolotl").text)
        assert found.keys() <= known
        assert (found["adapter"], found["lora_r"], found["lora_alpha"]) == ("lora", placement.rank, placement.alpha)
        assert found.get("peft_use_rslora", False) is placement.rslora
        assert hits(found["lora_target_modules"], placement.names) == placement.matched_modules


def test_llamafactory_splits_its_targets_at_commas_and_has_no_regex() -> None:
    """FinetuningArguments: llamafactory/hparams/finetuning_args.py (split_arg), model/adapter.py."""
    known = {"finetuning_type", "lora_rank", "lora_alpha", "lora_target", "use_rslora"}
    for placement in (
        placement_of("qwen2", **QWEN),
        placement_of("gpt2", targets=["c_fc"], rslora=True),
        by_module("qwen2"),
    ):
        found = yaml.safe_load(export(placement, "llamafactory").text)
        assert found.keys() <= known
        assert (found["finetuning_type"], found["lora_rank"]) == ("lora", placement.rank)
        assert (found["lora_alpha"], found.get("use_rslora", False)) == (placement.alpha, placement.rslora)
        targets = [item.strip() for item in found["lora_target"].split(",")]
        assert targets != ["all"]
        assert hits(targets, placement.names) == placement.matched_modules


def test_unsloth_is_called_with_its_documented_keywords() -> None:
    """FastLanguageModel.get_peft_model: unsloth/models/llama.py; a string is handed on to PEFT as one regex."""
    for placement in (placement_of("qwen2", **QWEN), by_module("qwen2")):
        call = ast.parse(export(placement, "unsloth").text).body[-1].value  # type: ignore[attr-defined]
        assert ast.unparse(call.func) == "FastLanguageModel.get_peft_model"
        assert [ast.unparse(argument) for argument in call.args] == ["model"]
        found = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        assert found.keys() <= {"r", "target_modules", "lora_alpha", "use_rslora"}
        assert (found["r"], found["lora_alpha"]) == (placement.rank, placement.alpha)
        assert hits(found["target_modules"], placement.names) == placement.matched_modules


def test_ms_swift_takes_a_list_or_a_regex() -> None:
    """TunerArguments: swift/arguments/tuner_args.py (target_regex takes the place of target_modules)."""
    known = {"lora_rank", "lora_alpha", "use_rslora", "target_modules", "target_regex"}
    for placement in (
        placement_of("qwen2", **QWEN),
        placement_of("gpt2", targets=["c_fc"], rslora=True),
        by_module("qwen2"),
    ):
        found = flags(export(placement, "ms-swift").text)
        assert found.keys() <= known
        assert (found["lora_rank"], found["lora_alpha"]) == ([str(placement.rank)], [str(placement.alpha)])
        assert found.get("use_rslora", ["false"]) == [str(placement.rslora).lower()]
        targets = found["target_regex"][0] if "target_regex" in found else found["target_modules"]
        assert hits(targets, placement.names) == placement.matched_modules


def as_trl_reads(placement: Placement) -> Any:
    """`ModelConfig.__post_init__` (trl/trainer/model_config.py) makes a bare string of a list of one."""
    found = flags(export(placement, "trl").text)
    assert found.keys() <= {"use_peft", "lora_r", "lora_alpha", "use_rslora", "lora_task_type", "lora_target_modules"}
    assert (found["use_peft"], found["lora_r"], found["lora_alpha"]) == (
        [],
        [str(placement.rank)],
        [str(placement.alpha)],
    )
    targets = found["lora_target_modules"]
    return targets[0] if len(targets) == 1 else targets


@pytest.mark.parametrize("targets", [["v_proj", "o_proj"], ["v_proj"]])
def test_trl_reads_a_single_target_as_a_regex(targets: list[str]) -> None:
    placement = placement_of("qwen2", targets=targets)
    assert hits(as_trl_reads(placement), placement.names) == placement.matched_modules
    assert hits(as_trl_reads(by_module("qwen2")), by_module("qwen2").names) == by_module("qwen2").matched_modules


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("qwen2", QWEN),
        ("qwen2", {"targets": ["v_proj"], "rslora": True}),
        ("mixtral", {"targets": ["v_proj", "gate_up_proj"]}),
        ("mixtral", {"targets": ["gate_up_proj", "down_proj"]}),
        ("deepseek_v3", {"targets": ["experts.down_proj", "shared_experts.down_proj"]}),
    ],
)
def test_trl_s_own_parser_and_peft_read_the_flags_so(name: str, wish: dict[str, Any]) -> None:
    trl = pytest.importorskip("trl")
    from transformers import HfArgumentParser
    from trl.trainer.utils import get_peft_config

    placement = placement_of(name, **wish)
    (config,) = HfArgumentParser(trl.ModelConfig).parse_args_into_dataclasses(
        shlex.split(export(placement, "trl").text.replace("\\\n", " "))
    )
    model = peft.get_peft_model(model_of(name), get_peft_config(config))
    assert adapted(model) == set(placement.matched_modules)
    assert model.get_nb_trainable_parameters()[0] == placement.trainable_parameters
    assert config.use_rslora is placement.rslora


def as_torchtune_reads(placement: Placement, **options: Any) -> set[str]:
    """Which of a checkpoint's modules get an adapter: `_FROM_HF` in torchtune/models/convert_weights.py and the
    builders in torchtune/models/qwen2/_component_builders.py, which refuse an empty list of attention modules."""
    model = yaml.safe_load(export(placement, "torchtune", **options).text)["model"]
    assert model.keys() == {"lora_attn_modules", "apply_lora_to_mlp", "lora_rank", "lora_alpha"}
    assert model["lora_attn_modules"]
    assert set(model["lora_attn_modules"]) <= {"q_proj", "k_proj", "v_proj", "output_proj"}
    theirs = {name.replace("output_proj", "o_proj") for name in model["lora_attn_modules"]}
    theirs |= {"gate_proj", "up_proj", "down_proj"} if model["apply_lora_to_mlp"] else set()
    return {name for name in placement.names if name.rpartition(".")[2] in theirs}


@pytest.mark.parametrize(
    "targets", [["v_proj", "o_proj"], ["q_proj", "gate_proj", "up_proj", "down_proj"], ["q_proj", "k_proj", "v_proj"]]
)
def test_torchtune_chooses_attention_modules_and_all_of_the_mlp(targets: list[str]) -> None:
    placement = placement_of("qwen2", targets=targets, rank=4)
    assert as_torchtune_reads(placement) == set(placement.matched_modules)


def test_torchtune_scales_by_alpha_over_r_so_rslora_is_said_by_alpha() -> None:
    placement = placement_of("qwen2", targets=["v_proj"], rank=16, alpha=32, rslora=True)
    assert yaml.safe_load(export(placement, "torchtune").text)["model"]["lora_alpha"] / 16 == 32 / 16**0.5


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"targets": ["v_proj", "down_proj"]}, "would also adapt 4 modules such as model.layers.0.mlp.gate_proj"),
        ({"targets": ["down_proj", "gate_proj", "up_proj"]}, "would also adapt 2 modules such as .*v_proj"),
    ],
)
def test_what_torchtune_cannot_say_is_refused_unless_approximate(wish: dict[str, Any], message: str) -> None:
    placement = placement_of("qwen2", **wish)
    with pytest.raises(PlopError, match=f"torchtune cannot say this placement: it {message}.*--approximate"):
        export(placement, "torchtune")
    found = export(placement, "torchtune", approximate=True)
    assert re.search(message, found.off or "")
    assert set(found.matched) == as_torchtune_reads(placement, approximate=True) > set(placement.matched_modules)


def test_a_model_that_torchtune_does_not_have_is_refused() -> None:
    with pytest.raises(PlopError, match="torchtune has no model like GPT2LMHeadModel; it knows Gemma, "):
        export(placement_of("gpt2", targets=["c_fc"]), "torchtune", approximate=True)


def test_llamafactory_refuses_what_only_a_regex_can_tell_apart() -> None:
    """A module whose whole path is the end of another's: every list that hits the one hits the other."""
    placement = placement_of("qwen2", targets=["v_proj"])
    fields = {name: getattr(placement, name) for name in Placement.__dataclass_fields__}
    twins = Placement(**fields | {"names": (*placement.names, *(f"draft.{name}" for name in placement.names))})
    assert isinstance(twins.targets, str)
    assert export(twins, "peft").off is None
    with pytest.raises(
        PlopError, match="llamafactory cannot say this placement: it would also adapt 2 modules such as draft"
    ):
        export(twins, "llamafactory")
    assert export(twins, "llamafactory", approximate=True).off


# All of them


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_placement_gives_the_same_bytes_with_targets_sorted(format: str) -> None:
    wish = {"targets": ["v_proj", "o_proj", "q_proj"], "rank": 4}
    texts = {export(placement_of("qwen2", **wish), format).text for _ in range(3)}
    assert len(texts) == 1
    text = texts.pop()
    assert text.endswith("\n")
    if format != "torchtune":
        assert text.index("o_proj") < text.index("q_proj") < text.index("v_proj")


def test_a_placement_that_matches_nothing_is_an_error() -> None:
    placement = placement_of("qwen2", targets=["v_proj"])
    fields = {name: getattr(placement, name) for name in Placement.__dataclass_fields__}
    with pytest.raises(PlopError, match="peft would adapt no module at all"):
        export(Placement(**fields | {"names": ("lm_head",)}), "peft")
    with pytest.raises(PlopError, match=r"no format 'pef'; did you mean 'peft'\?"):
        export(placement, "pef")
    assert json.loads(export(placement, "peft").text)["target_modules"] == ["v_proj"]


# Fused experts


@pytest.mark.parametrize("format", ["llamafactory", "torchtune", "nemo-automodel", "mlx-lm"])
def test_trainers_without_a_word_for_parameters_are_refused_experts(format: str) -> None:
    with pytest.raises(
        PlopError, match=r"would leave out 2 modules such as model\.layers\.0|no model|call its modules"
    ):
        export(placement_of("mixtral", targets=["v_proj", "gate_up_proj"]), format)


def test_trl_and_axolotl_name_the_parameters() -> None:
    placement = placement_of("mixtral", targets=["v_proj", "gate_up_proj"])
    assert "--lora_target_parameters gate_up_proj" in export(placement, "trl").text
    assert yaml.safe_load(export(placement, "axolotl").text)["lora_target_parameters"] == ["gate_up_proj"]


@pytest.mark.parametrize("format", ["trl", "ms-swift"])
def test_no_module_at_all_is_said_by_a_regex_that_matches_none(format: str) -> None:
    """Without it they, or PEFT, would take modules of their own."""
    assert "(?!)" in export(placement_of("mixtral", targets=["gate_up_proj"]), format).text


def test_an_expert_is_chosen_with_all_that_share_its_parameter() -> None:
    model, texts = model_of("mixtral"), [f"{i} and {i * i} make {i + i * i}" for i in range(30)]
    scores = plop_cli.score(model, byte_tokenizer(), texts)
    placement = recommend(scores, by="module", model=model)
    assert set(placement.matched_modules) <= {module.place for module in linear_modules(model)[0]}
    assert set(placement.choice.nfn) == {module.name.partition("[")[0] for module in scores.modules}


def test_experts_without_a_score_are_counted_by_the_model_alone() -> None:
    model = model_of("mixtral")
    scores = plop_cli.score(model, byte_tokenizer(), ["a"] * 8)
    with pytest.raises(PlopError, match=r"not all experts of model\.layers\.0\..*give the model"):
        recommend(scores, types=1)
    assert recommend(scores, types=1, model=model).modules


# Task types


def a_small(name: str, kind: Any) -> Placement:
    return recommend(targets=FIRST[name], model=kind.from_config(AutoConfig.for_model(name, **TYPED[name])))


TYPED: dict[str, dict[str, Any]] = {
    "bert": {"vocab_size": 257, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    | {"num_attention_heads": 2},
    "t5": {"vocab_size": 257, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    "marian": {"vocab_size": 257, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0}
    | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    "qwen2": SMALL["qwen2"],
}
TYPED["whisper"] = TYPED["marian"]
FIRST = {"bert": ["query"], "t5": ["EncDecAttention.q"], "marian": ["encoder_attn.q_proj"], "qwen2": ["v_proj"]}
FIRST["whisper"] = FIRST["marian"]


@pytest.mark.parametrize(
    ("name", "kind", "task_type", "takes"),
    [
        ("bert", hf.AutoModelForMaskedLM, None, set()),
        ("bert", hf.AutoModelForSequenceClassification, "SEQ_CLS", {"axolotl", "trl", "ms-swift", "unsloth"}),
        ("qwen2", hf.AutoModelForTokenClassification, "TOKEN_CLS", {"axolotl", "trl"}),
        ("qwen2", hf.AutoModelForQuestionAnswering, "QUESTION_ANS", set()),
        ("t5", hf.AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM", {"unsloth"}),
        ("marian", hf.AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM", {"unsloth"}),
        ("whisper", hf.AutoModelForSpeechSeq2Seq, None, set()),
    ],
)
def test_a_trainer_is_told_the_right_task_type_or_refused(
    name: str, kind: Any, task_type: str | None, takes: set[str]
) -> None:
    placement = a_small(name, kind)
    assert placement.lora_config().task_type == task_type
    for format in FORMATS:
        if format in takes | {"peft", "python"}:
            export(placement, format)
        elif format != "nemo-automodel" or task_type != "SEQ_CLS":
            with pytest.raises(PlopError, match=rf"{format} takes every model for .*; choose the format peft"):
                export(placement, format)
    if task_type == "SEQ_CLS":
        assert "--lora_task_type SEQ_CLS" in export(placement, "trl").text
        assert "--task_type seq_cls" in export(placement, "ms-swift").text


def test_torchtune_is_said_to_be_no_longer_developed() -> None:
    assert "no longer developed" in str(export(placement_of("qwen2", targets=["q_proj"]), "torchtune").remark)


def test_torchtune_has_no_model_for_the_attention_layers_of_a_hybrid() -> None:
    config = hf.GraniteMoeHybridConfig(
        **EXPERTS | {"intermediate_size": 48, "num_key_value_heads": 1, "num_local_experts": 0},
        layer_types=["mamba", "attention"],
        mamba_n_heads=4,
        mamba_d_head=16,
    )
    placement = recommend(targets=["q_proj"], model=AutoModelForCausalLM.from_config(config))
    with pytest.raises(PlopError, match="torchtune has no model like GraniteMoeHybridForCausalLM"):
        export(placement, "torchtune")


# What PEFT refuses


def test_what_is_refused_is_what_peft_refuses() -> None:
    """Of every class of a causal language model that transformers has, by the list in PEFT's own function."""
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for model_type, architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        model = SimpleNamespace(config=SimpleNamespace(model_type=model_type))
        for name in ("out_proj", "conv1d", "in_proj", "q_proj"):
            try:
                _check_lora_target_modules_mamba(peft.LoraConfig(), model, name)
            except ValueError:
                assert refused(architecture, [f"mixer.{name}"]) == [f"mixer.{name}"]
            else:
                assert refused(architecture, [f"mixer.{name}"]) == []


def mamba2() -> Any:
    return AutoModelForCausalLM.from_config(
        hf.Mamba2Config(
            vocab_size=257, num_hidden_layers=2, hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=1
        )
    )


def test_what_peft_refuses_is_scored_and_shown_and_not_chosen() -> None:
    model = mamba2()
    scores = plop_cli.score(model, byte_tokenizer(), [f"{i} and {i * i}" for i in range(10)])
    assert {kind.type for kind in scores.types} == {"in_proj", "out_proj"}
    assert scores.recommended == ["in_proj"]
    assert any("out_proj is left out of the choice: PEFT refuses LoRA on it" in text for text in scores.warnings)
    for placement in (recommend(scores), recommend(scores, model=model), recommend(scores, by="module", model=model)):
        assert set(placement.left_out) == {"out_proj"}
        assert any("out_proj (NFN " in sentence and "is left out" in sentence for sentence in sentences(placement))
        assert placement.to_dict()["left_out"][0]["nfn"] > 0
        assert all("out_proj" not in strategy.types for strategy in placement.strategies)
    assert adapted(placement.apply(model)) == {f"backbone.layers.{layer}.mixer.in_proj" for layer in (0, 1)}
    with pytest.raises(PlopError, match=r"out_proj of a Mamba2ForCausalLM cannot be a target: PEFT refuses"):
        recommend(targets=["out_proj"], model=mamba2())


@pytest.mark.parametrize(
    ("name", "asked", "meant"),
    [
        ("deepseek_v3", "gate_proj", "'mlp.gate_proj' or 'shared_experts.gate_proj'"),
        ("qwen2", "mlp.gate_proj", "'gate_proj'"),
        ("mixtral", "gate_proj", "'gate_up_proj'"),
    ],
)
def test_did_you_mean_knows_longer_and_shorter_names(name: str, asked: str, meant: str) -> None:
    with pytest.raises(PlopError, match=rf"no module type '{asked}'; did you mean {meant}\?"):
        placement_of(name, targets=[asked])
