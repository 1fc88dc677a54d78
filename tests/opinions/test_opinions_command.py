"""`plop opinions`, `plop recommend --opinions` and `second_opinions` as a user sees them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CLIPConfig, CLIPModel, MixtralConfig
from typer.testing import CliRunner, Result

import architectures
from plop_cli import second_opinions
from plop_cli.cli.app import app
from plop_cli.opinions import weights
from plop_cli.opinions.methods import METHODS, OF_WEIGHTS
from plop_registry import Registry
from small_models import byte_tokenizer, qwen2, uneven

Plop = Callable[..., Result]


@pytest.fixture
def tiny(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "registry.db"


@pytest.fixture
def plop(registry: Path) -> Plop:
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{'What is ' * (i % 5 + 1)}{i} plus {i * i}?\n" for i in range(40)))
    return path


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_every_method_of_weights_has_its_say_and_the_table_names_it(plop: Plop, tiny: Path) -> None:
    methods = {each["method"]: each for each in document(plop("opinions", tiny, "-f", "json"))["methods"]}
    assert tuple(methods) == OF_WEIGHTS
    for key in ("kappa", "stable-rank", "effective-rank"):
        each = methods[key]
        values = [kind["value"] for kind in each["types"]]
        assert values == sorted(values, reverse=each["adapts"] == "highest")
        assert each["chosen"] == [kind["type"] for kind in each["types"][:3]]
        assert each["tau"] is each["shared_with_plop"] is None
    shown = plop("opinions", tiny).stdout
    assert all(METHODS[key].name in shown for key in OF_WEIGHTS)


def test_what_is_stored_is_the_answer_until_it_is_asked_for_anew(plop: Plop, tiny: Path) -> None:
    first = document(plop("opinions", tiny, "-f", "json"))
    assert document(plop("opinions", tiny, "-f", "json")) == first, "the seconds too: nothing was computed"
    again = document(plop("opinions", tiny, "-f", "json", "--recompute"))
    assert [each["modules"] for each in again["methods"]] == [each["modules"] for each in first["methods"]]
    assert again != first


def test_the_answer_from_the_registry_needs_no_torch(plop: Plop, tiny: Path, words: Path) -> None:
    assert plop("recommend", tiny, "--task", words, "--opinions").exit_code == 0
    for line in (["opinions", str(tiny)], ["recommend", str(tiny), "--task", str(words), "--opinions"]):
        probe = (
            "import sys; from plop_cli.cli.app import app\n"
            f"try: app({line!r})\n"
            "except SystemExit as end: print(end.code, {'torch', 'transformers', 'peft'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 set()", done.stderr


def test_precisions_are_apart(plop: Plop, tiny: Path) -> None:
    full, half = (
        document(plop("opinions", tiny, "--dtype", dtype, "-f", "json"))["methods"] for dtype in ("float32", "bfloat16")
    )
    assert [each["settings"] for each in (full[0], half[0])] == [
        {"dtype": dtype, "architecture": "Qwen2ForCausalLM"} for dtype in ("float32", "bfloat16")
    ]
    assert full[0]["modules"] != half[0]["modules"]


def test_recommend_puts_others_beside_plop(plop: Plop, tiny: Path, words: Path) -> None:
    placement = document(plop("recommend", tiny, "--task", words, "--opinions", "-f", "json"))
    plain, *others = placement["opinions"]
    chosen = [kind["type"] for kind in placement["types"] if kind["chosen"]]
    assert (plain["method"], plain["chosen"]) == ("nfn", chosen)
    assert [kind["value"] for kind in plain["types"]] == pytest.approx([kind["nfn"] for kind in placement["types"]])
    assert [each["method"] for each in others][:2] == ["nfn-squared", "kappa"]
    for each in others:
        assert each["shared_with_plop"] == [kind for kind in each["chosen"] if kind in chosen]
    shown = plop("recommend", tiny, "--task", words, "--opinions").stdout
    assert "Second opinions" in shown
    assert "Kendall's" in shown
    assert "0 of 0" not in shown, "block influence, which is of layers, shares no types"


@pytest.mark.parametrize(
    "rule", [("--types", "2"), ("--exclude", "k_proj,up_proj"), ("--below", "1.0"), ("--budget", "20K")]
)
def test_all_methods_keep_to_the_rule(plop: Plop, tiny: Path, words: Path, rule: tuple[str, str]) -> None:
    placement = document(plop("recommend", tiny, "--task", words, *rule, "--opinions", "-f", "json"))
    count = sum(kind["chosen"] for kind in placement["types"])
    for each in placement["opinions"]:
        if each["types"]:
            assert len(each["chosen"]) == count
            assert not {"k_proj", "up_proj"} & {kind["type"] for kind in each["types"]} or rule[0] != "--exclude"


def test_of_several_tasks_nfn_is_the_mean(plop: Plop, tiny: Path, words: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"def f{i}(x): return x + {i}\n" for i in range(40)))
    placement = document(plop("recommend", tiny, "-t", words, "-t", more, "--opinions", "-f", "json"))
    values = {kind["type"]: kind["value"] for kind in placement["opinions"][0]["types"]}
    assert values == pytest.approx({kind["type"]: kind["nfn"] for kind in placement["types"]})


def test_of_experts_that_some_tasks_do_not_reach_too(plop: Plop, registry: Path, tmp_path: Path) -> None:
    config = MixtralConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=16,
        num_experts_per_tok=1,
        vocab_size=257,
        max_position_embeddings=256,
    )
    model = uneven(AutoModelForCausalLM, config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.mul_(20)
    model.save_pretrained(tmp_path / "experts")
    byte_tokenizer().save_pretrained(tmp_path / "experts")
    tasks = []
    for letters in ("ab", "yz"):
        tasks += ["-t", tmp_path / f"{letters}.txt"]
        tasks[-1].write_text("".join(f"{letters * (number + 8)}\n" for number in range(16)))
    placement = document(plop("recommend", tmp_path / "experts", *tasks, "--opinions", "-f", "json"))
    plain = placement["opinions"][0]
    assert plain["chosen"] == [kind["type"] for kind in placement["types"] if kind["chosen"]]
    assert {kind["type"]: kind["value"] for kind in plain["types"]} == {
        kind["type"]: pytest.approx(kind["nfn"]) for kind in placement["types"]
    }
    reached = [
        {module.name for module in run.modules if module.tokens} for run in Registry(registry).runs(modules=True)
    ]
    assert reached[0] != reached[1]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--targets", "q_proj"), "leave out --targets"),
        (("--invert",), "leave out --targets, --invert"),
        (("--by", "module"), "--by"),
        (("--format", "peft"), "add --format table"),
    ],
)
def test_what_opinions_do_not_go_with_is_a_usage_error(
    plop: Plop, tiny: Path, words: Path, options: tuple[str, ...], remedy: str
) -> None:
    task = () if "--targets" in options else ("--task", words)
    result = plop("recommend", tiny, *task, *options, "--opinions")
    assert result.exit_code == 2
    assert remedy in " ".join(result.stderr.replace("│", " ").split())


def test_a_run_of_other_weights_is_refused(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    assert plop("score", tiny, "--task", words).exit_code == 0
    (run,) = Registry(registry).runs()
    change(tiny, lambda tensors: tensors["model.layers.0.self_attn.q_proj.weight"].mul_(2))
    result = plop("recommend", tiny, "--run", run.id, "--opinions")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"run {run.id} is of revision" in result.stderr.replace("\n", " ")


def test_a_model_without_weights_is_refused_in_a_line(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    assert plop("score", tiny, "--task", words).exit_code == 0
    (run,) = Registry(registry).runs()
    (tiny / "model.safetensors").unlink()
    for line in (("opinions", tiny), ("recommend", tiny, "--run", run.id, "--opinions")):
        result = plop(*line)
        assert (result.exit_code, result.stdout) == (1, "")
        assert len(result.stderr.strip().splitlines()) <= 3, result.stderr
        assert "Traceback" not in result.stderr


def test_weights_without_a_value_are_said_once_for_all_methods(plop: Plop, tiny: Path) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors["model.layers.0.mlp.up_proj.weight"].zero_()
        tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")

    change(tiny, damage)
    shown = plop("opinions", tiny).stdout
    assert "model.layers.0.mlp.up_proj (all of its weights are zero)" in shown
    assert "model.layers.1.mlp.up_proj (its weight has NaN or infinity)" in shown
    kappa = next(
        each for each in document(plop("opinions", tiny, "-f", "json"))["methods"] if each["method"] == "kappa"
    )
    assert len(kappa["left_out"]) == 2
    assert "up_proj" not in {kind["type"] for kind in kappa["types"] if kind["modules"] == 0}


def test_an_adapter_is_refused(plop: Plop, tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    get_peft_model(qwen2(), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    result = plop("opinions", tiny, "--adapter", tmp_path / "adapter")
    assert result.exit_code == 1
    assert "give the base model, without an adapter" in result.stderr


def test_a_folder_of_an_adapter_is_refused_before_anything_is_scored(
    plop: Plop, tiny: Path, words: Path, registry: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    result = plop("recommend", tmp_path / "adapter", "--task", words, "--opinions")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "give the base model" in result.stderr
    assert not Registry(registry).runs()
    assert "--opinions" not in plop("score", tmp_path / "adapter", "--task", words, "--opinions").stderr


def test_a_run_of_the_weights_in_another_form_is_refused(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    assert plop("score", tiny, "--task", words, "--dtype", "bfloat16").exit_code == 0
    (run,) = Registry(registry).runs()
    result = plop("recommend", tiny, "--run", run.id, "--dtype", "float32", "--opinions")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"run {run.id} is of bfloat16 weights" in result.stderr
    assert plop("recommend", tiny, "--run", run.id, "--dtype", "bfloat16", "--opinions").exit_code == 0


def test_what_peft_refuses_to_adapt_is_chosen_by_no_method(plop: Plop, registry: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mamba"
    architectures.build("Mamba").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    result = plop("opinions", folder, "-f", "json")
    assert all("out_proj" not in each["chosen"] for each in document(result)["methods"])
    assert "out_proj is left out of the choice: PEFT refuses" in " ".join(result.stderr.split())
    assert not any("out_proj" in name for each in document(result)["methods"] for name in each["own_rule"] or ())
    orders = second_opinions(str(folder), registry=registry)
    assert not any("out_proj" in order.chosen for order in orders.values())
    assert len({len(order.chosen) for order in orders.values() if order.types}) == 1


def test_what_no_token_runs_through_is_chosen_by_no_method(plop: Plop, words: Path, tmp_path: Path) -> None:
    """Mamba takes the weight of dt_proj and never calls it, which is known of a run, and said of weights alone."""
    folder = tmp_path / "mamba"
    architectures.build("Mamba").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    assert "modules that none runs through are among them" in " ".join(plop("opinions", folder).stdout.split())
    placement = document(plop("recommend", folder, "--task", words, "--opinions", "-f", "json"))
    count = sum(kind["chosen"] for kind in placement["types"])
    for each in placement["opinions"]:
        assert not {"dt_proj", "out_proj"} & {kind["type"] for kind in each["types"]}
        assert not any(name.endswith(("dt_proj", "out_proj")) for name in each["own_rule"] or ())
        assert len(each["chosen"]) == (count if each["types"] else 0)


def test_a_model_that_does_not_tell_where_its_words_are_has_opinions_and_scores(
    plop: Plop, words: Path, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": 257, "eos_token_id": 2},
        vision_config={**sizes, "image_size": 28, "patch_size": 14},
        projection_dim=32,
    )
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    byte_tokenizer().save_pretrained(tmp_path / "clip")
    short = ("--task", words, "--max-length", "64")
    placement = document(plop("recommend", tmp_path / "clip", *short, "--opinions", "-f", "json"))
    assert len(placement["opinions"]) == 10
    assert not any("vision" in module["name"] for module in placement["opinions"][0]["modules"])


def test_weights_that_cannot_be_read_are_refused_and_not_stored(
    plop: Plop, tiny: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no kernel for these shapes")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "_matrix", fails)
        result = plop("opinions", tiny)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "no weight of the model can be looked at: its weight cannot be read (RuntimeError: no kernel" in result.stderr
    )
    assert document(plop("opinions", tiny, "-f", "json"))["methods"][0]["types"]


@pytest.mark.parametrize("format", ["csv", "jsonl", "md"])
def test_each_type_of_each_method_is_a_row(plop: Plop, tiny: Path, format: str) -> None:
    result = plop("opinions", tiny, "-f", format)
    assert result.exit_code == 0
    assert "kappa" in result.stdout
    assert "v_proj" in result.stdout
    change(tiny, lambda tensors: tensors["model.layers.0.mlp.up_proj.weight"].zero_())
    assert "layers.0.mlp.up_proj (all of its weights are zero)" in plop("opinions", tiny, "-f", format).stderr


def test_python_has_the_same_orders(plop: Plop, tiny: Path, registry: Path) -> None:
    methods = document(plop("opinions", tiny, "-f", "json"))["methods"]
    orders = second_opinions(str(tiny), registry=registry)
    assert {key: list(order.chosen) for key, order in orders.items()} == {m["method"]: m["chosen"] for m in methods}


def test_the_same_weights_under_another_name_have_what_was_looked_at_since(
    plop: Plop, tiny: Path, words: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    for folder, more in ((copy, ()), (tiny, ()), (tiny, ("--opinions",)), (copy, ("--opinions",))):
        assert plop("score", folder, "--task", words, *more).exit_code == 0
    placement = document(plop("recommend", copy, "--task", words, "--opinions", "-f", "json"))
    assert {"eva", "influence"} <= {each["method"] for each in placement["opinions"]}


def test_what_was_not_looked_at_in_a_run_is_said_with_the_command_that_does(
    plop: Plop, tiny: Path, words: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    run = document(plop("score", tiny, "--task", words, "--json", "--registry", elsewhere))["run_id"]
    result = plop("recommend", tiny, "--run", run, "--opinions", "--registry", elsewhere)
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert "explained variance and block influence of tiny are not in the registry; plop score" in said
    command = said.partition("; plop ")[2].partition(" puts them there")[0]
    assert f"--registry {elsewhere}" in command
    again = document(plop(*shlex.split(command), "--json"))["run_id"]
    assert "explained variance" in plop("recommend", tiny, "--run", again, "--opinions", "--registry", elsewhere).stdout
