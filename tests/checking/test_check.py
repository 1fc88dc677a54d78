"""`check`: each public failure of its kind, made with a small model and flagged; no alarm where there is no fire."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

import architectures
from architectures import ARCHITECTURES
from failures import FAILURES, Q_V, SEVEN, page
from plop_cli import PlopError, check, recommend
from plop_cli.checking.check import Checked
from plop_cli.checking.peft_config import KEYS
from plop_cli.cli.app import app
from plop_cli.placement.trainers.export import FORMATS, export

SMALL = {"vocab_size": 257, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**SMALL),
    "tied": lambda: hf.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "mixtral": lambda: hf.MixtralConfig(**SMALL, num_local_experts=4),
    "qwen3-next": lambda: hf.Qwen3NextConfig(**SMALL, **EXPERTS),
    "qwen2-moe": lambda: hf.Qwen2MoeConfig(**SMALL, **EXPERTS),
    "mamba2": lambda: hf.Mamba2Config(
        vocab_size=257, num_hidden_layers=2, hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=1
    ),
    "falcon-h1": lambda: hf.FalconH1Config(
        **SMALL, mamba_n_heads=4, mamba_d_head=16, mamba_d_ssm=64, mamba_d_state=16, mamba_n_groups=1, head_dim=16
    ),
    "jamba": lambda: hf.JambaConfig(**SMALL, attn_layer_period=2, attn_layer_offset=1, num_experts=1),
    "gpt2": lambda: hf.GPT2Config(vocab_size=257, n_embd=32, n_layer=2, n_head=2, n_positions=64),
}


@functools.cache
def model_of(name: str) -> Any:
    if name in ARCHITECTURES:
        return architectures.on_meta(name)
    with torch.device("meta"):
        if name in ("bert", "classifier"):
            config = hf.BertConfig(vocab_size=257, hidden_size=32, intermediate_size=48, num_attention_heads=2)
            kind = hf.AutoModelForSequenceClassification if name == "classifier" else hf.AutoModelForMaskedLM
            return kind.from_config(config)
        return hf.AutoModelForCausalLM.from_config(CONFIGS[name]())


def test_the_keys_of_peft_s_configuration_are_known() -> None:
    assert {field.name for field in dataclasses.fields(peft.LoraConfig)} == KEYS


def found(checked: Checked) -> set[tuple[str, str]]:
    return {(finding.level, finding.code) for finding in checked.findings if finding.level != "note"}


def text_of(checked: Checked, code: str) -> str:
    return " / ".join(finding.text for finding in checked.findings if finding.code == code)


@pytest.mark.parametrize("what", FAILURES)
def test_a_public_failure_is_flagged(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plop_cli.checking.matching.DEADLINE", 1.0)
    name, config, kind, said = FAILURES[what]
    checked = check({"r": 4, **config}, model_of(name))
    assert kind in found(checked), checked.findings
    assert said in text_of(checked, kind[1])
    assert checked.failed == (kind[0] == "error")


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
def test_all_linear_is_what_peft_takes(task_type: str | None) -> None:
    config = {"peft_type": "LORA", "r": 4, "target_modules": "all-linear", "task_type": task_type}
    checked = check(config, model_of("classifier"))
    assert ("classifier" in checked.adapted) == (task_type is None)
    assert [row.modules for row in checked.rows] == [checked.adapted]
    assert "lost" not in {finding.code for finding in checked.findings}


@pytest.mark.parametrize("rank", [16, 17, 64, 513])
def test_a_rank_is_held_against_what_a_server_loads(rank: int) -> None:
    checked = check({"r": rank, "target_modules": Q_V, "use_dora": False}, model_of("llama"), serve=["vllm", "sglang"])
    said = text_of(checked, "serving")
    assert ("--max-lora-rank 32" in said) == (rank == 17)
    assert ("--max-lora-rank 64" in said.partition("SGLang")[0]) == (rank == 64)
    assert checked.failed == (rank == 513)


def test_what_a_server_cannot_load_at_all_fails() -> None:
    config = {"r": 8, "target_modules": Q_V, "modules_to_save": ["lm_head"], "use_dora": True}
    assert "merge it instead" in text_of(check(config, model_of("llama"), serve=["vllm"]), "serving")
    with pytest.raises(PlopError, match=r"no server 'vlm'; did you mean 'vllm'\?"):
        check(config, model_of("llama"), serve=["vlm"])


LEFT_OUT: dict[str, tuple[str, dict[str, Any], str, set[tuple[str, str]]]] = {
    "layers": ("llama", {"target_modules": Q_V, "layers_to_transform": [0]}, "leaves out 1–3", set()),
    "an exclusion": ("llama", {"target_modules": Q_V, "exclude_modules": ["0.self_attn.q_proj"]}, "out 0", set()),
    "a regex": ("llama", {"target_modules": r".*\.[01]\.self_attn\.q_proj"}, "leaves out 2–3", set()),
    "a path": ("llama", {"target_modules": ["model.layers.0.self_attn.q_proj"]}, "leaves out 1–3", set()),
    "layers of a hybrid": (
        *("jamba", {"target_modules": Q_V, "layers_to_transform": [1]}, "leaves out 3"),
        {("warning", "uneven")},
    ),
}


@pytest.mark.parametrize("how", LEFT_OUT)
def test_blocks_that_the_config_itself_leaves_out_are_not_said_to_lack_the_module(how: str) -> None:
    name, config, said, flagged = LEFT_OUT[how]
    checked = check({"r": 4, **config}, model_of(name))
    assert said in text_of(checked, "left-out")
    assert found(checked) == flagged
    assert "no such module" not in text_of(checked, "uneven")


@pytest.mark.parametrize(
    "limits",
    [
        {"layers_to_transform": [7]},
        {"layers_to_transform": [0], "layers_pattern": "blocks"},
        {"exclude_modules": ["q_proj"]},
    ],
)
def test_a_name_that_the_model_has_is_never_offered_for_itself(limits: dict[str, Any]) -> None:
    checked = check({"r": 4, "target_modules": ["q_proj"], **limits}, model_of("llama"))
    assert "q_proj names 4 modules, of which layers_to_transform" in text_of(checked, "dead-name")
    assert "did you mean" not in text_of(checked, "dead-name")


def blocks_of(paths: Iterable[str]) -> set[str]:
    return {block[0] for path in paths if (block := re.match(r".*?\.\d+\.", path))}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_standard_configs_raise_no_false_alarm(name: str) -> None:
    """q and v, all seven, all-linear, each with the names that the model has: what is flagged is what real PEFT does.

    Blocks without an adapter, frozen experts and towers are looked up in the model; nothing else may be said.
    """
    model = model_of(name)
    paths = [path for path, _ in model.named_modules()]
    parts = {path.rpartition(".")[2] for path in paths}
    for targets in ([t for t in Q_V if t in parts], [t for t in SEVEN if t in parts], "all-linear"):
        if not targets:
            continue
        config = peft.LoraConfig(r=4, target_modules=targets)
        checked = check(config, model)
        try:
            tuned = peft.get_peft_model(copy.deepcopy(model), config, low_cpu_mem_usage=True)
        except ValueError:
            assert found(checked) == {("error", "refused")}
            continue
        assert checked.parameters == tuned.get_nb_trainable_parameters()[0]
        assert not checked.failed
        codes = {code for _, code in found(checked)}
        stacks = any(parameter.ndim == 3 for path, parameter in model.named_parameters() if "conv" not in path)
        allowed = {"frozen-experts", "lost"} if stacks else set()
        allowed |= {"uneven"} if blocks_of(paths) != blocks_of(checked.adapted) else set()
        towers = ("Gemma 3 (vision)", "LLaVA", "Qwen2.5-VL")
        allowed |= {"not-meant"} if name in towers or targets == "all-linear" else set()
        assert codes <= allowed, checked.findings


def test_what_is_said_of_a_target_is_what_real_peft_does() -> None:
    checked = check({"r": 4, "target_modules": Q_V, "exclude_modules": ["0.self_attn.q_proj"]}, model_of("llama"))
    assert [(row.target, len(row.modules), row.layers) for row in checked.rows] == [
        ("q_proj", 3, (1, 2, 3)),
        ("v_proj", 4, (0, 1, 2, 3)),
    ]
    assert len(checked.adapted) == 7
    assert checked.to_dict()["share"] == checked.parameters / checked.of


# Every trainer's config


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "python"])
def test_what_plop_writes_checks_as_what_it_means(format: str, tmp_path: Path) -> None:
    model = model_of("Llama")
    placement = recommend(targets=["q_proj", "v_proj"], rank=4, model=model)
    written = export(placement, format)
    path = tmp_path / written.file
    path.write_text(written.text)
    checked = check(path, model)
    assert (checked.format, checked.rank) == (format, 4)
    assert sorted(checked.adapted) == sorted(placement.matched_modules)
    assert checked.parameters == placement.trainable_parameters
    assert found(checked) == set()


CONFIG_FILES: dict[str, tuple[str, Any, list[str]]] = {
    "axolotl": ("a.yaml", {"base_model": "m", "adapter": "qlora", "lora_r": 8, "lora_target_modules": Q_V}, Q_V),
    "llamafactory": ("a.yaml", {"finetuning_type": "lora", "lora_target": "q_proj, v_proj", "lora_rank": 8}, Q_V),
    "torchtune": (
        "a.yaml",
        {"model": {"_component_": "torchtune.models.llama3.lora_llama3_8b", "lora_attn_modules": Q_V, "lora_rank": 8}},
        Q_V,
    ),
    "trl": ("a.yaml", {"use_peft": True, "lora_r": 8, "lora_target_modules": Q_V}, Q_V),
    "ms-swift": ("a.json", {"tuner_type": "lora", "lora_rank": 8, "target_modules": Q_V}, Q_V),
    "verl": ("a.yaml", {"actor_rollout_ref": {"model": {"lora_rank": 8, "target_modules": Q_V}}}, Q_V),
    "mlx-lm": (
        "a.yaml",
        {
            "num_layers": -1,
            "lora_parameters": {"keys": [f"self_attn.{q}" for q in Q_V], "rank": 8, "scale": 2.0},
        },
        Q_V,
    ),
    "nemo-automodel": ("a.yaml", {"peft": {"target_modules": ["*.q_proj", "*.v_proj"], "dim": 8}}, Q_V),
    "python": (
        "a.py",
        "T = ['q_proj', 'v_proj']\nc = LoraConfig(r=8, target_modules=T, task_type=TaskType.CAUSAL_LM)\n",
        Q_V,
    ),
    "unsloth": ("a.py", "m = FastLanguageModel.get_peft_model(m, r=8, random_state=seed)\n", SEVEN),
}


@pytest.mark.parametrize("format", CONFIG_FILES)
def test_each_trainer_s_config_is_known_for_what_it_is_and_never_run(format: str, tmp_path: Path) -> None:
    name, content, types = CONFIG_FILES[format]
    path = tmp_path / name
    path.write_text(
        content if isinstance(content, str) else yaml.safe_dump(content) if name[-1] == "l" else json.dumps(content)
    )
    checked = check(path, model_of("llama"))
    assert (checked.format, checked.rank) == (format, {"unsloth": 8}.get(format, 8))
    assert {name.rpartition(".")[2] for name in checked.adapted} == set(types)
    assert not checked.failed
    assert check(path, model_of("llama"), trainer=format).format == format
    other = "axolotl" if format != "axolotl" else "trl"
    with pytest.raises(PlopError, match=f"is a config for {format}, not for {other}"):
        check(path, model_of("llama"), trainer=other)


# Trained adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A small adapter on a small model, which lies beside it."""
    model = hf.AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    model.config.save_pretrained(tmp_path / "base")
    config = json.loads((tmp_path / "base/config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=Q_V, init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change(adapter: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Checked:
    weights = load_file(adapter / "adapter_model.safetensors")
    change(weights)
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    return check(adapter, adapter.parent / "base")


def test_a_trained_adapter_is_fine(adapter: Path) -> None:
    assert found(change(adapter, lambda weights: None)) == set()


def test_b_that_is_still_zero_is_found(adapter: Path) -> None:
    names = [f"base_model.model.model.layers.{i}.self_attn.{t}.lora_B.weight" for i in range(4) for t in Q_V]
    some = change(adapter, lambda weights: weights[names[3]].zero_())
    assert "1 of 8 B are zero, such as that of model.layers.1.self_attn.v_proj" in text_of(some, "untrained")
    every = change(adapter, lambda weights: [weights[name].zero_() for name in names])
    assert every.failed
    assert "the adapter does nothing" in text_of(every, "untrained")


def test_nan_and_keys_without_a_place_are_found(adapter: Path) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert change(adapter, lambda weights: weights[key].fill_(float("nan"))).failed
    moved = change(adapter, lambda weights: weights.update({key.replace("self_attn", "attention"): weights.pop(key)}))
    assert "1 key such as" in text_of(moved, "no-place")


# The command


@pytest.fixture
def plop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_the_command_checks_an_adapter_by_the_base_it_names(plop: Callable[..., Result], adapter: Path) -> None:
    result = plop("check", adapter)
    assert result.exit_code == 0, result.stderr
    assert "8 modules adapted" in result.stdout
    assert json.loads(plop("check", adapter, "--format", "json").stdout)["tried_with_peft"]
    assert "| `q_proj` | 4 | 0–3 |" in plop("check", adapter, "--format", "md").stdout


def test_exit_codes_tell_failures_from_warnings(plop: Callable[..., Result], adapter: Path) -> None:
    base = adapter.parent / "base"
    warned = ["check", "--targets", "q_proj,vproj", "--model", base]
    assert plop(*warned).exit_code == 0
    assert plop(*warned, "--strict").exit_code == 3
    assert plop("check", "--targets", "query", "--model", base).exit_code == 1
    assert plop("check", "--all-linear", "--model", base, "--strict").exit_code == 0
    flags = ["--use_peft", "--lora_r", "8", "--lora_target_modules", "q_proj", "v_proj"]
    assert plop("check", "--model", base, "--", *flags).exit_code == 0
    assert (
        plop("check", "--model", base, "--", "swift", "sft", "--lora_rank", "8", "--target_modules", "q_proj").exit_code
        == 0
    )
    slip = plop("check", "--model", base, "--", *flags, "--lora_target_module", "k_proj")
    assert slip.exit_code == 1
    assert "did you mean lora_target_modules?" in slip.stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.yaml", "- a\n- b\n", "holds no keys and values"),
        ("broken.yaml", "a: [b", "is no YAML"),
        ("broken.json", "{", "is no JSON"),
        ("other.yaml", "learning_rate: 1.0\n", "says nothing of LoRA that a trainer known here reads"),
        ("tag.yaml", "lora_r: !!python/object/apply:os.system ['true']\n", "is no YAML"),
        ("rank.yaml", "lora_r: many\nadapter: lora\nlora_target_modules: [q_proj]\n", "lora_r is 'many'"),
        ("rank.json", '{"r": 0, "target_modules": ["q_proj"]}', "r is 0; give a whole number of at least 1"),
        ("names.json", '{"r": 1, "target_modules": [1]}', "target_modules is '[1]'"),
        ("prompt.json", '{"peft_type": "PROMPT_TUNING"}', "check knows LoRA alone"),
        ("broken.py", "def (", "is no Python"),
        ("none.py", "print(1)", "calls neither LoraConfig nor get_peft_model"),
        ("computed.py", "LoraConfig(r=8, target_modules=find(model))", "target_modules is computed"),
        ("flags.txt", "--epochs 3", "has no flag of TRL's or ms-swift's LoRA"),
        ("quote.txt", "--lora_r '8", "cannot be split into words"),
        ("binary.yaml", b"\xff\xfe\x00", "cannot be read as text"),
        ("homeless.json", '{"r": 1, "target_modules": ["q_proj"]}', "does not say what model it is for; give --model"),
    ],
)
def test_bad_input_is_one_sentence(
    plop: Callable[..., Result], tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = plop("check", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_cannot_be_checked_is_said(plop: Callable[..., Result], tmp_path: Path) -> None:
    assert "there is no file" in plop("check", tmp_path / "no.json", "--model", "demo").stderr
    assert "has no adapter_config.json" in plop("check", tmp_path, "--model", "demo").stderr
    assert plop("check", "--model", "demo").exit_code == 2
    assert plop("check", "--targets", "q", "--fix", "--model", "demo").exit_code == 2


# Mended


MENDED: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "a dead name": ("llama", {"target_modules": ["q_proj", "qkv_proj"]}, {"q_proj"}),
    "experts": ("mixtral", {"target_modules": SEVEN, "lora_dropout": 0.1}, {*SEVEN[:4], "gate_up_proj", "down_proj"}),
    "shared experts": ("qwen3-next", {"target_modules": SEVEN}, {*SEVEN, "gate_up_proj"}),
    "Mamba": ("mamba2", {"target_modules": ["in_proj", "out_proj"]}, {"in_proj"}),
    "a tower": ("LLaVA", {"target_modules": Q_V}, set(Q_V)),
}  # fmt: skip


@pytest.mark.parametrize("what", MENDED)
def test_a_mended_config_adapts_what_was_meant_and_raises_nothing(what: str, tmp_path: Path) -> None:
    from plop_cli.checking.body import body_of
    from plop_cli.checking.fix import fixed
    from plop_cli.checking.read import read

    name, config, types = MENDED[what]
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"r": 4, "bias": "none", **config}))
    mended = json.loads(fixed(read(path)[0], body_of(model_of(name))))
    path.write_text(json.dumps(mended))
    checked = check(path, model_of(name))
    assert found(checked) <= {("warning", "uneven")}, checked.findings
    assert {name.rpartition(".")[2] for name in checked.adapted} == types
    assert (mended["r"], mended["bias"]) == (4, "none")
    assert not any("vision" in name for name in checked.adapted)


def test_a_mended_yaml_keeps_its_other_keys(plop: Callable[..., Result], adapter: Path, tmp_path: Path) -> None:
    path, mended = tmp_path / "config.yaml", tmp_path / "mended.yaml"
    keys = {"base_model": str(adapter.parent / "base"), "adapter": "lora", "lora_r": 8, "learning_rate": 1.0e-4}
    path.write_text(yaml.safe_dump(keys | {"lora_target_modules": ["q_proj", "query"]}))
    assert plop("check", path, "--fix", "-o", mended).exit_code == 0
    found = yaml.safe_load(mended.read_text())
    assert found | {"lora_alpha": None} == keys | {"lora_target_modules": ["q_proj"], "lora_alpha": None}
    assert plop("check", path, "--fix", "-o", mended).exit_code == 1, "it is there"


COMPUTED = {
    "names and a product": "T = ['q_proj', 'v_proj']\nR = 2\nLoraConfig(r=2 * R, lora_alpha=R + R, target_modules=T)",
    "a dictionary": "kw = dict(r=4, target_modules=['q_proj'] + ['v_proj'])\nLoraConfig(**kw)",
    "a literal dictionary": "R: int = 4\nLoraConfig(**{'r': R, 'target_modules': ['q_proj', 'v_proj']})",
}  # fmt: skip

NOT_FOLDED = {
    "bound twice": "T = ['q_proj']\nif big:\n    T = ['v_proj']\nLoraConfig(r=4, target_modules=T)",
    "added to": "T = ['q_proj']\nT.append('v_proj')\nLoraConfig(r=4, target_modules=T)",
    "augmented": "T = ['q_proj']\nT += ['v_proj']\nLoraConfig(r=4, target_modules=T)",
    "imported too": "from c import T\nT = ['q_proj']\nLoraConfig(r=4, target_modules=T)",
    "an argument": "T = ['q_proj']\ndef f(T):\n    return LoraConfig(r=4, target_modules=T)",
    "an item": "T = ['q_proj']\nT[0] = 'v_proj'\nLoraConfig(r=4, target_modules=T)",
    "itself": "T = T\nLoraConfig(r=4, target_modules=T)",
    "a list times a number": "LoraConfig(r=4, target_modules=['q_proj'] * 1000000000)",
    "a function's": "LoraConfig(r=4, target_modules=names_of(model))",
    "of a call": "LoraConfig(**settings())",
}


@pytest.mark.parametrize("how", COMPUTED)
def test_simple_assignments_in_a_python_file_are_followed(how: str, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(COMPUTED[how])
    checked = check(path, model_of("llama"))
    assert (checked.rank, len(checked.adapted)) == (4, 8)


@pytest.mark.parametrize("how", NOT_FOLDED)
def test_what_a_python_file_computes_is_refused_with_its_line(how: str, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(NOT_FOLDED[how])
    with pytest.raises(PlopError, match=r"train\.py:\d+: .* is computed"):
        check(path, model_of("llama"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "twice.yaml",
            "adapter: lora\nlora_r: 8\nlora_target_linear: true\nlora_r: 64\n",
            r"it says lora_r twice \(lines 2 and 4\)",
        ),
        ("twice.json", '{"r": 8, "target_modules": ["q_proj"], "r": 64}', "it says r twice"),
        (
            "inside.yaml",
            "model:\n  lora_rank: 8\n  lora_rank: 4\n  target_modules: all-linear\n",
            r"lora_rank twice \(lines 2 and 3\)",
        ),
        (
            "none.yaml",
            "base_model: x\nadapter: lora\nlora_r: 8\n",
            "give lora_target_modules, or lora_target_linear: true",
        ),
    ],
)
def test_what_a_trainer_would_guess_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PlopError, match=said):
        check(tmp_path / name, model_of("llama"))


@pytest.mark.parametrize(
    ("more", "failed"),
    [("", True), ("use_peft: false\n", True), ("use_peft: true\n", False), ("use_peft: 'yes'\n", False)],
)
def test_trl_without_use_peft_trains_without_lora(tmp_path: Path, more: str, failed: bool) -> None:
    config = tmp_path / "sft.yaml"
    config.write_text(
        f"model_name_or_path: org/name\ndataset_name: mine\nlora_r: 8\nlora_target_modules: [q_proj, v_proj]\n{more}"
    )
    checked = check(config, model_of("llama"))
    assert (checked.format, checked.failed) == ("trl", failed)
    assert ("where use_peft is not set" in text_of(checked, "no-lora")) == failed


UNSLOTH: dict[str, tuple[str, set[str], str]] = {
    "a switch off": ("FastVisionModel.get_peft_model(m, r=4, finetune_vision_layers=False)", set(), "finetune_vision"),
    "beside targets": (
        *("FastLanguageModel.get_peft_model(m, target_modules=['q_proj'], finetune_mlp_modules=False)", {"q_proj"}),
        "finetune_mlp_modules",
    ),
    "computed": ("FastModel.get_peft_model(m, finetune_language_layers=flag)", set(), "finetune_language_layers"),
    "a name": ("N = 8\nFastLanguageModel.get_peft_model(m, finetune_last_n_layers=N)", set(SEVEN), "last_n_layers"),
    "defaults": ("FastVisionModel.get_peft_model(m, finetune_vision_layers=True)", set(), ""),
    "seven": (f"FastVisionModel.get_peft_model(m, target_modules={SEVEN})", set(SEVEN), ""),
    "none": ("FastModel.get_peft_model(m, r=4, target_modules=None)", set(), ""),
}


@pytest.mark.parametrize("how", UNSLOTH)
def test_what_unsloth_chooses_by_and_is_not_read_is_said(how: str, tmp_path: Path) -> None:
    call, types, said = UNSLOTH[how]
    (tmp_path / "train.py").write_text(call)
    checked = check(tmp_path / "train.py", model_of("llama"))
    assert {name.rpartition(".")[2] for name in checked.adapted} == (types or set(SEVEN))
    assert (("warning", "not-read") in found(checked)) == bool(said)
    assert said in text_of(checked, "not-read")
    assert ("read as all-linear" in text_of(checked, "not-read")) == (not types)


def test_the_page_of_public_failures_is_true() -> None:
    assert (Path(__file__).parents[2] / "docs" / "check.md").read_text() == page()
