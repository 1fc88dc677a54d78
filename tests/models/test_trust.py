"""What a model's files ask for and do not get: code that nobody allowed, files from elsewhere, all memory."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from plop_cli.cli.app import app
from plop_cli.errors import PlopError
from plop_cli.models import fingerprints
from plop_cli.models import source as models
from plop_cli.models.loading import load, skeleton
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from small_models import qwen2

HERE = Loading(dtype="float32", device="cpu")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "user_cache_path", lambda name: tmp_path / "cache" / name)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def refusal(folder: Path, loading: Loading = HERE) -> str:
    with pytest.raises(PlopError) as caught:
        load(identify(str(folder), loading), loading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def revision(folder: Path, **options: Any) -> str:
    return identify(str(folder), Loading(**options)).revision


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


# Code


def test_no_other_module_loads_anything_by_itself() -> None:
    calls = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for part in ("plop_cli", "experiments", "benchmarks")
        for path in sorted((ROOT / part).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "from_pretrained"
    }
    assert {call.partition(":")[0] for call in calls} == {"plop_cli/models/pretrained.py"}


TRACE = "import pathlib; pathlib.Path({trace!r}).write_text('ran')\n"
TOKENIZER = "from transformers import PreTrainedTokenizerFast\nclass Own(PreTrainedTokenizerFast): pass\n"


def bring_code(folder: Path, trace: Path) -> None:
    """A tokenizer of the folder's own."""
    (folder / "own.py").write_text(TRACE.format(trace=str(trace)) + TOKENIZER)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    file.write_text(json.dumps(config))


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    peft = pytest.importorskip("peft", reason="pip install 'plop-cli[peft]' is missing")
    model, tokenizer = load(identify(str(folder), HERE), HERE)
    place = tmp_path / "adapter"
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.mark.parametrize("whose", ["model", "adapter"])
def test_a_tokenizer_of_its_own_does_not_run_and_nobody_is_asked(
    whose: str, request: pytest.FixtureRequest, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = folder if whose == "model" else request.getfixturevalue("adapter")
    trace = tmp_path / "trace"
    bring_code(asked, trace)
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    command = ["score", str(asked), "--task", "sample/math", "-n", "2"]
    done = CliRunner().invoke(app, command, input="yes\n" * 100)
    assert not trace.exists()
    assert "[y/N]" not in done.output
    if whose == "adapter":  # a model's tokenizer is one that transformers has, in place of its own
        assert done.exit_code == 1
        assert "needs code of its own; give --trust-remote-code if you trust it" in done.stderr
    assert CliRunner().invoke(app, [*command, "--trust-remote-code", "--force"], catch_exceptions=False).exit_code == 0
    assert trace.exists(), "the test would notice code that runs"


# What an index names


def shard(folder: Path, name: str, weights: str = "model.safetensors") -> None:
    """The weights as one shard called `name`, with an index."""
    names = list(load_file(folder / weights))
    content = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    (folder / weights).unlink()


def pickle_beside(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "weights.bin")
    save_file({"decoy": torch.ones(1)}, folder / "decoy.safetensors")
    shard(folder, "weights.bin")


def link_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    shutil.copy(folder.parent / "elsewhere.safetensors", folder / "model.safetensors")
    (folder / "one.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")
    shard(folder, "one.safetensors")


def name_weights(name: Any) -> Callable[[Path], None]:
    return lambda folder: configure(folder, transformers_weights=name)


def index(content: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(
            content if isinstance(content, str) else json.dumps(content)
        )

    return write


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pickle_beside, "'weights.bin', which is no .safetensors file"),
        (lambda f: shard(f, "../tiny/model.safetensors"), "lies outside of the folder"),
        (lambda f: shard(f, "/etc/passwd"), "lies outside of the folder"),
        (lambda f: shard(f, "a\0b.safetensors"), "lies outside of the folder"),
        (link_out, "lies outside of the folder"),
        (lambda f: shard(f, "gone.safetensors"), "lacks 'gone.safetensors'"),
        (index([]), "is no JSON object"),
        (index({}), "has no weight_map"),
        (index({"weight_map": []}), "has no weight_map"),
        (index({"weight_map": {}}), "has no weight_map"),
        (index({"weight_map": {"a": 1}}), "has no weight_map"),
        (index({"weight_map": {"a": ["model.safetensors"]}}), "has no weight_map"),
        (index("[" * 100_000), "nested too deeply"),
        (index('{"weight_map": '), "is not JSON"),
        (name_weights("adapter_model.bin"), "names weights that are no safetensors"),
        (name_weights(7), "names weights that are no safetensors"),
        (name_weights("../x.safetensors"), "lies outside of the folder"),
    ],
)  # fmt: skip
def test_an_index_names_safetensors_inside_the_folder_or_is_refused(
    folder: Path, change: Callable[[Path], None], said: str
) -> None:
    change(folder)
    assert said in refusal(folder)


def test_weights_in_a_subfolder_are_loaded_and_part_of_the_revision(folder: Path) -> None:
    (folder / "part").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "part" / "one.safetensors")
    shard(folder, "part/one.safetensors")
    before, (model, _) = revision(folder), load(identify(str(folder)), HERE)
    assert torch.equal(next(model.parameters()), next(qwen2().parameters()))
    weights = load_file(folder / "part" / "one.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, folder / "part" / "one.safetensors", metadata={"format": "pt"})
    assert revision(folder) != before


def test_the_hub_caches_own_links_are_followed(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--tiny"
    (repository / "blobs").mkdir(parents=True)
    shard_file = repository / "blobs" / "0123"
    shutil.copy(folder / "model.safetensors", shard_file)
    shard(folder, "one.safetensors")
    (repository / "snapshots").mkdir()
    snapshot = Path(shutil.copytree(folder, repository / "snapshots" / "c0ffee"))
    (snapshot / "one.safetensors").symlink_to("../../blobs/0123")
    load(identify(str(snapshot)), HERE)


# What the revision covers


def test_the_former_revision_of_an_ordinary_folder_is_what_it_always_was(folder: Path) -> None:
    """Runs that older versions stored are found by it."""
    (folder / "trainer_state.json").write_text("{}")
    (folder / "notes.md").write_text("none of it")
    whole = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.name not in ("trainer_state.json", "generation_config.json", "notes.md"):
            whole.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    with fingerprints.formerly():
        assert revision(folder) == whole.hexdigest()
    assert re.fullmatch("[0-9a-f]{64}-b3", revision(folder))


@pytest.mark.parametrize(
    ("name", "options", "covered"),
    [
        ("chat_template.jinja", {}, True),
        ("additional_chat_templates/tools.jinja", {}, True),
        ("tokenizer.model", {}, True),
        ("source.spm", {}, True),
        ("bpe.codes", {}, True),
        ("modeling_own.py", {"trust_remote_code": True}, True),
        ("code/modeling_own.py", {"trust_remote_code": True}, True),
        ("code/modeling_own.py", {}, False),
        ("optimizer.pt", {}, False),
        ("runs/events.json", {}, False),
    ],
)  # fmt: skip
def test_what_loading_reads_is_part_of_the_revision(
    folder: Path, name: str, options: dict[str, Any], covered: bool
) -> None:
    before = revision(folder, **options)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("one")
    first = revision(folder, **options)
    (folder / name).write_text("two, longer")
    assert (first != before, revision(folder, **options) != first) == (covered, covered)


def test_code_from_another_folder_is_part_of_the_revision_where_it_is_trusted(folder: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "own.py").write_text("one = 1\n")
    configure(folder, auto_map={"AutoModelForCausalLM": f"{code}--own.Own"})
    plain, trusted = revision(folder), revision(folder, trust_remote_code=True)
    (code / "own.py").write_text("two = 2  # longer\n")
    assert revision(folder) == plain
    assert revision(folder, trust_remote_code=True) != trusted


def replaced(file: Path, content: bytes) -> None:
    """As rsync does: another file, with the size and the time of the first."""
    draft, stat = file.with_name("draft"), file.stat()
    draft.write_bytes(content)
    os.utime(draft, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    draft.replace(file)


def written_over(file: Path, content: bytes) -> None:
    """In place, the time set back."""
    stat = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, written_over])
def test_weights_that_changed_behind_size_and_time_are_hashed_again(
    folder: Path, change: Callable[[Path, bytes], None]
) -> None:
    before, weights = revision(folder), folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    change(weights, bytes(content))
    assert revision(folder) != before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "[" * 100_000, '{"/x": []}'])
def test_a_damaged_memory_of_hashes_is_only_forgotten(folder: Path, tmp_path: Path, content: str) -> None:
    before, memory = revision(folder), tmp_path / "cache" / "plop" / "parts.json"
    memory.write_text(content)
    assert revision(folder) == before


# What a configuration asks for


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1e+09, and no model has so many"),
        ({"num_hidden_layers": 1e300}, "no model has so many"),
        ({"num_hidden_layers": 99_999, "layer_types": None}, "asks for more than 10,"),
        ({"num_hidden_layers": 500, "layer_types": None}, "weights and its files hold"),
        ({"num_attention_heads": 10**12}, "no model has so many"),
        ({"num_labels": 10**9}, "num_labels is 1e+09"),
        ({"vision": {"deep": [{"depths": [2, 10**10]}]}}, "depths is 1e+10"),
        ({"hidden_size": 10**9, "num_attention_heads": 4}, "cannot be loaded|its files hold"),
        ({"vocab_size": 10**11}, "its files hold"),
        ({"quantization_config": []}, "cannot be loaded"),
        ({"quantization_config": [1]}, "its quantization_config is none that transformers writes"),
        ({"quantization_config": "int8"}, "its quantization_config is none that transformers writes"),
        ({"quantization_config": {"quant_method": "torchao"}}, "its quantization_config is none"),
        ({"quantization_config": {"quant_method": "torchao", "quant_type": [1]}}, "its quantization_config is none"),
        ({"quantization_config": {"quant_method": ["\x1b[31m"]}}, "its quantization_config has no name"),
        ({"quantization_config": {"quant_method": "x" * 10**6}}, "its quantization_config has no name"),
        ({"architectures": 7}, "cannot be loaded"),
        ({"architectures": [["a"]]}, "cannot be loaded"),
        ({"auto_map": 7}, "cannot be loaded"),
    ],
)  # fmt: skip
def test_what_a_configuration_asks_for_is_bounded_before_it_is_made(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    configure(folder, **changes)
    found = refusal(folder)
    assert any(text in found for text in said.split("|")), found


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "[" * 100_000, "nested too deeply"),
        ("config.json", '{"a":' * 100_000, "nested too deeply"),
        ("config.json", "[]", "is no JSON object"),
        ("config.json", "\xff\xfe", "is not JSON"),
        ("config.json", "", "is not JSON"),
        ("tokenizer_config.json", "[" * 100_000, "cannot be loaded"),
        ("tokenizer.json", "[" * 100_000, "cannot be loaded"),
        ("generation_config.json", "[" * 100_000, None),
    ],
)  # fmt: skip
def test_files_that_are_no_configuration(folder: Path, file: str, content: str, said: str | None) -> None:
    (folder / file).write_text(content, encoding="latin-1")
    if said is None:
        identify(str(folder))
    else:
        assert said in refusal(folder)


def test_a_gguf_that_asks_for_a_billion_layers(tmp_path: Path) -> None:
    with models.demo_file().open("rb") as stream:
        head = stream.read(1 << 20)
    key = b"llama.block_count\4\0\0\0"
    place = head.index(key) + len(key)
    (tmp_path / "m.gguf").write_bytes(head[:place] + struct.pack("<I", 10**9) + head[place + 4 :])
    assert "layers is 1e+09, and no model has so many" in refusal(tmp_path / "m.gguf")


def test_the_meta_model_of_a_large_configuration_is_bounded_too(folder: Path) -> None:
    configure(folder, num_hidden_layers=99_999, layer_types=None)
    with pytest.raises(PlopError, match="asks for more than 10,"):
        skeleton(identify(str(folder)))


# Safetensors headers


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": []}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": 8}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": "08"}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": {"0": 0, "1": 8}}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": ["x", 10**9], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}},
        {"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
        {"a": []},
        {"a": None},
        [],
        7,
        None,
    ],
)
def test_a_header_of_a_wrong_shape(folder: Path, header: Any) -> None:
    content = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content + b"\0" * 8)
    assert "is no whole safetensors file" in refusal(folder)


@pytest.mark.parametrize("length", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_a_header_of_a_wrong_length(folder: Path, length: int) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    assert "is no whole safetensors file" in refusal(folder)


# Files that cannot be read


@pytest.fixture
def nobody(tmp_path: Path) -> Any:
    """Not root for a while, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == 0 and place.is_relative_to("/tmp") and place != Path("/tmp"):
            place.chmod(0o755)
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", ""])
def test_files_that_may_not_be_read(folder: Path, name: str, request: pytest.FixtureRequest) -> None:
    (folder / name).chmod(0)
    request.getfixturevalue("nobody")
    assert "cannot be read (Permission denied); check the path and its permissions" in refusal(folder)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "~nosuchuser/model",
            "~nosuchuser/model cannot be found (Could not determine home directory); give the whole path",
        ),
        ("x" * 5000, "File name too long"),
        ("a\0b", "no model at"),
        ("", "no model at ''"),
    ],
)
def test_paths_that_are_none(model: str, said: str) -> None:
    with pytest.raises(PlopError) as caught:
        identify(model)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
