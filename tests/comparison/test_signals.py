"""`plop compare --signal`: the same tables of what another method says, as far as the registry has it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_cli.opinions.methods import METHODS
from plop_registry import ModuleValue, Opinion, Registry, Run, SampleMatrix

MakeRun = Callable[..., tuple[Run, SampleMatrix]]
ONE = {"q_proj": 10.0, "v_proj": 1e5, "up_proj": 20.0, "down_proj": 15.0}
OTHER = ONE | {"v_proj": 12.0, "q_proj": 30.0}


def opinion(key: str, values: Mapping[str, float], version: int | None = None) -> Opinion:
    modules = [ModuleValue(f"{layer}.{name}", name, value) for layer in range(2) for name, value in values.items()]
    made = METHODS[key].opinion(modules, seconds=1)
    return made if version is None else replace(made, version=version)


@pytest.fixture
def two(tmp_path: Path, make_run: MakeRun) -> Path:
    """A registry of two models' runs; κ of both is kept, SNR of the first, and α of another version of plop."""
    path = tmp_path / "registry.db"
    with Registry(path) as registry:
        for number, values in enumerate((ONE, OTHER)):
            run, matrix = make_run(number, model_id=f"org/m{number}", model_revision=f"{number}" * 40)
            registry.add(run, matrix)
            registry.opinions.keep_of_weights(run.model_revision, "float32", [opinion("kappa", values)])
            registry.opinions.keep_of_weights(run.model_revision, "float32", [opinion("alpha", values, version=0)])
        registry.opinions.keep_of_weights("0" * 40, "float32", [opinion("snr", ONE)])
        again, matrix = make_run(2, model_id="org/m0", model_revision="0" * 40, task_id="arc")
        registry.add(again, matrix)
    return path


def compare(registry: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words, "--registry", str(registry)], env={"COLUMNS": "100"})


def test_types_stand_in_the_order_of_the_method_and_differences_have_no_errors(two: Path) -> None:
    result = compare(two, "--by", "model", "--task", "gsm8k", "--signal", "kappa")
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0].endswith("_proj")] == ["q_proj", "down_proj", "up_proj", "v_proj"]
    assert "1e+05" in result.stdout
    assert "-9.999e+04" in result.stdout
    assert "condition number κ would adapt these, the lowest." in " ".join(result.stdout.split())
    assert "By condition number κ: The placement changes with the model" in " ".join(result.stdout.split())
    assert "chance" not in result.stdout


def test_the_json_names_the_signal_and_a_value(two: Path) -> None:
    document = json.loads(compare(two, "--by", "model", "--task", "gsm8k", "--signal", "kappa", "-f", "json").stdout)
    assert document["signal"] == "kappa"
    assert [run["recommended"] for run in document["runs"]] == [["q_proj", "down_proj"], ["v_proj", "down_proj"]]
    assert {row["type"]: row["value"] for row in document["scores"] if row["name"] == "org/m1"} == pytest.approx(OTHER)
    assert {row["significant"] for row in document["scores"]} == {None}, "one value has no error"
    plain = json.loads(compare(two, "--by", "model", "--task", "gsm8k", "-f", "json").stdout)
    assert (plain["signal"], "nfn" in plain["scores"][0]) == ("nfn", True)


def test_squared_nfn_needs_nothing_that_is_kept(two: Path) -> None:
    document = json.loads(
        compare(two, "--by", "model", "--task", "gsm8k", "--signal", "nfn-squared", "-f", "json").stdout
    )
    with Registry(two) as registry:
        (run,) = registry.runs(model="org/m1", modules=True)
    shown = {row["type"]: row["value"] for row in document["scores"] if row["name"] == "org/m1"}
    assert shown == {score.type: pytest.approx(score.nfn_squared) for score in run.types}


def test_weights_say_the_same_of_every_task(two: Path) -> None:
    result = compare(two, "--by", "task", "--model", "org/m0", "--signal", "kappa")
    assert "Mind: condition number κ looks at the weights alone, and these runs are of the same weights." in " ".join(
        result.stdout.split()
    )


@pytest.mark.parametrize("words", [("org/m0/gsm8k", "org/m0/piqa"), ("--by", "task", "--model", "org/m0")])
def test_weights_in_another_precision_differ_by_that_and_not_by_the_task(
    two: Path, make_run: MakeRun, words: tuple[str, ...]
) -> None:
    with Registry(two) as registry:
        half, matrix = make_run(3, model_id="org/m0", model_revision="0" * 40, task_id="piqa", dtype="bfloat16")
        registry.add(half, matrix)
        registry.opinions.keep_of_weights("0" * 40, "bfloat16", [opinion("kappa", OTHER)])
    result = compare(two, *words, "--signal", "kappa")
    shown = " ".join(result.stdout.split())
    assert "The placement changes with the dtype" in shown, result.stderr
    assert "not the same dtype: " in shown
    assert "bfloat16 in piqa" in shown
    assert "of the same weights" not in shown


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ("snr", f"Spectrum's SNR of org/m1 is not in the registry; plop opinions org/m1@{'1' * 40} --registry "),
        ("alpha", "heavy tail α of org/m0 is not in the registry; plop opinions org/m0@"),
        ("eva", "explained variance of org/m0 is not in the registry; plop score org/m0@"),
    ],
)
def test_what_is_not_kept_is_refused_with_the_command_that_makes_it(two: Path, signal: str, said: str) -> None:
    result = compare(two, "--by", "model", "--task", "gsm8k", "--signal", signal)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(f"--registry {two} puts it there\n")
    assert signal != "eva" or " --opinions --registry" in result.stderr


def test_a_run_of_a_training_names_what_it_saved(two: Path, make_run: MakeRun) -> None:
    """Its revision is of weights in memory, and no command gives that again."""
    with Registry(two) as registry:
        run, matrix = make_run(3, model_id="org/m0", model_label="checkpoint-20", model_revision="9" * 64)
        run = registry.add(run, matrix)
    result = compare(two, "org/m1/gsm8k", run.id, "--signal", "kappa")
    assert result.exit_code == 1
    assert "where a training's callback scored weights in memory, score what it saved, and take that" in result.stderr


def test_weights_of_a_revision_say_nothing_of_an_adapter_merged_into_them(two: Path, make_run: MakeRun) -> None:
    with Registry(two) as registry:
        run, matrix = make_run(3, model_id="org/m0", model_revision="0" * 40, settings={"adapter": "f" * 40})
        run = registry.add(run, matrix)
    result = compare(two, run.id, "org/m1/gsm8k", "--signal", "kappa")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"run {run.id} has one merged in" in result.stderr


def test_modules_without_a_value_are_said_and_their_type_is_not_called_lacking(two: Path) -> None:
    """In a mean of fewer modules, or of none."""
    with Registry(two) as registry:
        less = opinion("kappa", {name: value for name, value in OTHER.items() if name != "q_proj"})
        registry.opinions.keep_of_weights("1" * 40, "float32", [less])
        counts = Counter(module.type for module in registry.runs(task="gsm8k", modules=True)[0].modules)
    shown = " ".join(compare(two, "--by", "model", "--task", "gsm8k", "--signal", "kappa").stdout.split())
    assert f"modules of org/m1 without a value: q_proj ({counts['q_proj']} of {counts['q_proj']})" in shown
    assert "not in org/m1" not in shown


def test_a_method_of_layers_tells_no_types_apart(two: Path) -> None:
    with Registry(two) as registry:
        for run in registry.runs(task="gsm8k"):
            layers = METHODS["influence"].opinion([ModuleValue("layers.0", "", 0.1)], seconds=0)
            registry.opinions.keep_of_run(run.id, [layers])
    result = compare(two, "--by", "model", "--task", "gsm8k", "--signal", "influence")
    assert (result.exit_code, result.stderr) == (
        1,
        "plop: block influence has no order of org/m0's types (it tells layers apart, not types); choose another "
        "--signal\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--signal", "kapa"], "no method 'kapa'; did you mean 'kappa'?"),
        (["--signal", "kappa", "--fail-on", "nfn:0.1"], "nfn: is of NFN, and --signal is kappa; give changed"),
    ],
)
def test_bad_usage_is_said(two: Path, words: list[str], said: str) -> None:
    result = compare(two, "--by", "model", "--task", "gsm8k", *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_changed_placement_fails_by_any_signal(two: Path) -> None:
    assert compare(two, "--by", "model", "--task", "gsm8k", "--signal", "kappa", "--fail-on", "changed").exit_code == 3
