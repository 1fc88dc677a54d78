"""`plop recommend` and `plop score --until-decided` as a user sees them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_cli.cli.placements import PlacementFormat
from plop_cli.placement.trainers.export import FORMATS
from plop_registry import Registry
from small_models import gpt2, qwen2

Plop = Callable[..., Result]
TYPES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="session")
def tiny(saved: Path) -> Path:
    return saved


@pytest.fixture(scope="session")
def only_config(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config") / "only"
    folder.mkdir()
    shutil.copy(tiny / "config.json", folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "registry.db"


@pytest.fixture
def plop(registry: Path) -> Plop:
    """`plop ARGUMENTS...`, in this process."""
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Forty short texts."""
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{'What is ' * (i % 5 + 1)}{i} plus {i * i}?\n" for i in range(40)))
    return path


@pytest.fixture
def more_words(tmp_path: Path) -> Path:
    path = tmp_path / "more.txt"
    path.write_text("".join(f"def f{i}(x):\n    return x + {i}\n".replace("\n", " ") + "\n" for i in range(40)))
    return path


def recommended(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# What is said


def test_types_confidence_strategies_and_config_are_printed(plop: Plop, tiny: Path, words: Path) -> None:
    result = plop("recommend", tiny, "--task", words, "--match", "mlp:8")
    assert result.exit_code == 0, result.stderr
    chosen = [
        line.split()[1] for line in result.stdout.splitlines() if "●" in line and "%" in line and "MB" not in line
    ]
    assert len(chosen) == 3
    assert "% of resamples)." in " ".join(result.stdout.split())
    for strategy in ("PLoP", "PLoP⁻¹", "Attn (Q-K-V)", "MLP", "all-linear"):
        assert strategy in result.stdout
    listed = ", ".join(f'"{name}"' for name in sorted(chosen))
    assert f"    target_modules=[{listed}],\n" in result.stdout


def test_the_json_form_has_every_strategy_at_the_same_and_at_the_matched_rank(
    plop: Plop, tiny: Path, words: Path
) -> None:
    found = recommended(plop("recommend", tiny, "--task", words, "--rank", "4", "--format", "json"))
    assert found["model"] == "tiny"
    assert found["tasks"] == ["words.txt"]
    assert (found["rank"], found["alpha"], len(found["matched_modules"])) == (4, 8, 9)
    assert {row["type"] for row in found["types"]} == TYPES
    assert found["targets"] == sorted(row["type"] for row in found["types"] if row["chosen"])
    attn, mlp = (next(s for s in found["strategies"] if s["name"] == name) for name in ("Attn (Q-K-V)", "MLP"))
    assert attn["types"] == ["k_proj", "q_proj", "v_proj"]
    assert mlp["types"] == ["down_proj", "gate_proj", "up_proj"]
    assert mlp["trainable_parameters"] == 4 * 3 * 3 * (96 + 224)
    for strategy in found["strategies"]:
        per_rank = strategy["trainable_parameters"] // 4
        matched = strategy["matched"]
        rank = matched["rank"] if matched else 0
        assert rank * per_rank <= found["trainable_parameters"] < (rank + 1) * per_rank
    assert found["share"] == pytest.approx(found["trainable_parameters"] / qwen2().num_parameters())


def test_scores_are_made_once_with_as_few_texts_as_decide_it_and_then_come_from_the_registry(
    plop: Plop, tiny: Path, words: Path, registry: Path
) -> None:
    first = plop("recommend", tiny, "--task", words, "--format", "json")
    with Registry(registry) as store:
        (run,) = store.runs()
    assert run.samples in (8, 16, 32, 40)
    assert any(f"{run.samples} " in warning and "texts were scored" in warning for warning in run.warnings)
    again = plop("recommend", tiny, "--task", words, "--format", "json")
    assert "are from the registry" in again.stderr
    assert again.stdout == first.stdout
    with Registry(registry) as store:
        assert len(store.runs()) == 1


def test_stored_scores_of_any_number_of_texts_answer_if_they_decide_it(plop: Plop, tiny: Path, words: Path) -> None:
    plop("score", tiny, "--task", words, "-n", "39")
    found = plop("recommend", tiny, "--task", words, "--confidence", "0.5", "-n", "20")
    assert "39 texts)" in found.stderr
    other = plop("recommend", tiny, "--task", words, "--confidence", "0.5", "--max-length", "20")
    assert "from the registry" not in other.stderr, "other settings are other scores"


def test_a_run_that_stopped_early_is_the_run_of_its_texts(plop: Plop, tiny: Path, words: Path, registry: Path) -> None:
    """The same key, and the same digits but for how the texts were batched, as asking for just these texts."""
    early = json.loads(plop("score", tiny, "--task", words, "--until-decided", "--confidence", "0.5", "--json").stdout)
    assert early["task"]["samples"] == 8 == early["settings"]["samples"]
    assert "8 of at most 40 texts were scored" in early["warnings"][-1]
    assert json.loads(plop("score", tiny, "--task", words, "-n", "8", "--json").stdout)["cached"]
    plain = json.loads(plop("score", tiny, "--task", words, "-n", "8", "--json", "--force").stdout)
    assert (plain["key"], plain["task"]) == (early["key"], early["task"])
    assert [row["nfn"] for row in plain["types"]] == pytest.approx([row["nfn"] for row in early["types"]], rel=1e-5)
    whole = json.loads(plop("score", tiny, "--task", words, "--json").stdout)
    assert (whole["cached"], whole["task"]["samples"]) == (False, 40)
    assert whole["key"] != early["key"]


def test_until_decided_is_answered_by_what_is_decided_already(plop: Plop, tiny: Path, words: Path) -> None:
    decided = ["score", tiny, "--task", words, "--until-decided", "--confidence", "0.5", "--json"]
    first = json.loads(plop(*decided).stdout)
    assert json.loads(plop(*decided).stdout) == first | {"cached": True}


def test_several_tasks_count_by_their_mean_and_each_is_shown(
    plop: Plop, tiny: Path, words: Path, more_words: Path
) -> None:
    both = ["recommend", tiny, "--task", words, "--task", more_words, "--confidence", "0.5"]
    found = recommended(plop(*both, "--format", "json"))
    assert found["tasks"] == ["words.txt", "more.txt"] == list(found["by_task"])
    for row in found["types"]:
        means = [task["nfn"][row["type"]] for task in found["by_task"].values()]
        assert row["nfn"] == pytest.approx(sum(means) / 2)
    shown = plop(*both).stdout
    assert "words.txt" in shown
    assert "The tasks disagree: " in shown or "Each task alone takes the same." in shown


def test_single_modules_are_said_to_be_experimental_and_shown_by_layers(plop: Plop, tiny: Path, words: Path) -> None:
    result = plop("recommend", tiny, "--task", words, "--by", "module", "--confidence", "0.5")
    assert result.exit_code == 0
    assert "--by module is experimental" in result.stderr
    assert "9 single modules" in result.stdout


# Your own choice, and exports


@pytest.mark.parametrize("format", ["peft", "axolotl", "llamafactory", "ms-swift", "trl", "unsloth", "python", "json"])
def test_your_own_choice_needs_only_a_config_json(plop: Plop, only_config: Path, registry: Path, format: str) -> None:
    result = plop("recommend", only_config, "--targets", "v_proj,o_proj", "--rank", "8", "--format", format)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.index("o_proj") < result.stdout.index("v_proj")
    # v: 96 → 48, o: 96 → 96, three layers
    assert "6 modules (3 o_proj and 3 v_proj), 8,064 trainable parameters at rank 8, alpha 16." in result.stderr
    assert 8 * 3 * (96 + 48 + 96 + 96) == 8064
    assert not registry.exists()


def test_what_a_trainer_cannot_say_needs_approximate(plop: Plop, only_config: Path) -> None:
    command = ["recommend", only_config, "--targets", "v_proj,down_proj", "--format", "torchtune"]
    refused = plop(*command)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "plop: torchtune cannot say this placement: it would also adapt 6 modules" in refused.stderr
    written = plop(*command, "--approximate")
    assert written.exit_code == 0
    assert "warning: torchtune cannot say this placement" in written.stderr
    assert yaml.safe_load(written.stdout)["model"]["apply_lora_to_mlp"] is True


def test_a_file_gets_what_would_be_printed_and_is_not_overwritten_unasked(
    plop: Plop, only_config: Path, tmp_path: Path
) -> None:
    command = ["recommend", only_config, "--targets", "v_proj", "--format", "peft"]
    path = tmp_path / "adapter_config.json"
    printed = plop(*command).stdout
    written = plop(*command, "-o", path)
    assert (written.exit_code, written.stdout, path.read_text()) == (0, "", printed)
    refused = plop(*command, "--rank", "4", "-o", path)
    assert refused.exit_code == 1
    assert refused.stderr == f"plop: {path} exists; --overwrite replaces it\n"
    assert path.read_text() == printed
    assert plop(*command, "--rank", "4", "-o", path, "--force").exit_code == 0
    assert json.loads(path.read_text())["r"] == 4
    assert [file.name for file in tmp_path.iterdir()] == ["adapter_config.json"]
    table = tmp_path / "table.txt"
    assert plop("recommend", only_config, "--targets", "v_proj", "-o", table).exit_code == 0
    assert "all-linear" in table.read_text()


def test_several_formats_go_into_a_folder_at_once(plop: Plop, only_config: Path, tmp_path: Path) -> None:
    command = ["recommend", only_config, "--targets", "v_proj", *(word for f in FORMATS for word in ("-f", f))]
    without = plop(*command)
    assert without.exit_code == 2
    assert "--output" in without.stderr
    folder = tmp_path / "configs"
    written = plop(*command, "-f", "json", "-o", folder)
    assert (written.exit_code, written.stdout) == (0, ""), written.stderr
    assert len(list(folder.iterdir())) == len(FORMATS) + 1
    assert (folder / "adapter_config.json").read_text() == plop(*command[:4], "-f", "peft").stdout
    assert plop(*command, "-o", folder).stderr.endswith("exists; --overwrite replaces it\n")
    assert plop(*command, "-o", folder, "--force").exit_code == 0


def test_one_format_that_is_refused_leaves_no_folder(plop: Plop, only_config: Path, tmp_path: Path) -> None:
    command = ["recommend", only_config, "--targets", "v_proj,down_proj", "-f", "peft", "-f", "torchtune"]
    assert plop(*command, "-o", tmp_path / "configs").exit_code == 1
    assert not (tmp_path / "configs").exists()


def test_every_export_is_a_format() -> None:
    assert [format.value for format in PlacementFormat] == ["table", "json", *FORMATS]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{tiny}"], 2, "--task, --run or --targets"),
        (["{tiny}", "--task", "sample/math", "--targets", "v_proj"], 2, "--task, --run or --targets"),
        (["{tiny}", "--targets", "vproj"], 1, "no module type 'vproj'; did you mean 'v_proj'?"),
        (["{tiny}", "--targets", "v_proj", "--exclude", "nope"], 1, "no module type 'nope'"),
        (["{tiny}", "--task", "sample/math", "--types", "9"], 1, "--types is 9, and there are 7 to choose from"),
        (["{tiny}", "--task", "sample/mth"], 1, "did you mean 'sample/math'?"),
        (["{tiny}", "--targets", "v_proj", "--budget", "100"], 1, "the budget is 100 parameters, and rank 1 takes 432"),
        (["{tiny}", "--targets", "v_proj", "--budget", "lots"], 1, "'lots' is no number of parameters"),
        (["{tiny}", "--targets", "v_proj", "--match", "mpl:8"], 1, "no strategy 'mpl'; did you mean 'mlp'?"),
        (["{tiny}", "--targets", "v_proj", "--match", "mlp"], 1, "has no rank; write STRATEGY:RANK, such as mlp:8"),
        (["{tiny}", "--targets", "v_proj", "--format", "excel"], 2, "--format"),
        (["{tiny}", "--targets", "v_proj", "-o", "{tiny}/no/such/f.json"], 1, "there is no folder {tiny}/no/such"),
        (["{tiny}", "--run", "abcd"], 1, "no run 'abcd'"),
        (["nowhere/", "--targets", "v_proj"], 1, "no model at 'nowhere/'"),
    ],
)
def test_bad_input_is_one_sentence(
    plop: Plop, tiny: Path, registry: Path, arguments: list[str], code: int, said: str
) -> None:
    result = plop("recommend", *(argument.format(tiny=tiny) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert said.format(tiny=tiny) in " ".join(result.stderr.split())
    assert code == 2 or len(result.stderr.splitlines()) == 1
    assert not registry.exists(), "nothing was scored"


def test_too_few_texts_choose_nothing(plop: Plop, tiny: Path, words: Path) -> None:
    result = plop("recommend", tiny, "--task", words, "-n", "5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "plop: scores from 5 texts are too few to choose by; score at least 8" in result.stderr


def test_a_stored_run_of_another_architecture_is_refused(
    plop: Plop, tiny: Path, words: Path, registry: Path, tmp_path: Path
) -> None:
    plop("score", tiny, "--task", words, "-n", "8")
    with Registry(registry) as store:
        (run,) = store.runs()
    assert plop("recommend", tiny, "--run", run.id[:6], "--format", "peft").exit_code == 0
    other = tmp_path / "other"
    gpt2().save_pretrained(other)
    result = plop("recommend", other, "--run", run.id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "plop: the scores are of another model (tiny, Qwen2ForCausalLM): this GPT2LMHeadModel has no" in result.stderr
    )
    assert len(result.stderr.splitlines()) == 1
