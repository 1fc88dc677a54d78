"""Weights that do not fit: fetched layer by layer, the same scores, and memory that stays free."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils.offload import OffloadedWeightsLoader
from transformers import MixtralConfig, MixtralForCausalLM
from typer.testing import CliRunner

from plop_cli import PlopError, score
from plop_cli.cli.app import app
from plop_cli.models.device_map import device_map
from plop_cli.models.devices import resolve_dtype
from plop_cli.models.loading import load, skeleton
from plop_cli.models.options import Loading
from plop_cli.models.scratch import remove_left
from plop_cli.models.source import identify
from plop_cli.network.offload import counted_reads, execution_device, is_offloaded
from plop_cli.scoring.batches import default_budget
from plop_registry import Registry
from real_model import sample_texts, save_smollm2
from small_models import byte_tokenizer, gpt2, qwen2

TEXTS = sample_texts("math", 4)


@pytest.fixture(scope="module", params=["qwen2", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2 (biases on q, k and v) and GPT-2 (Conv1D, whose checkpoint names lack the model's prefix)."""
    place = tmp_path_factory.mktemp("offload") / request.param
    {"qwen2": qwen2, "gpt2": gpt2}[request.param]().save_pretrained(place)
    byte_tokenizer().save_pretrained(place)
    return place


def in_memory_and_offloaded(folder: Path, max_memory: str, **options: Any) -> tuple[Any, Any]:
    models = []
    for more in ({}, {"offload": "disk", "max_memory": max_memory}):
        model, tokenizer = load(identify(str(folder)), Loading(dtype="float32", device="cpu", **more))
        models.append((model, score(model, tokenizer, TEXTS, **options)))
    (_, here), (model, there) = models
    assert any(parameter.is_meta for parameter in model.parameters()), "some weights are elsewhere again, afterwards"
    return here, there


def test_scores_are_those_in_memory(folder: Path) -> None:
    here, there = in_memory_and_offloaded(folder, "600KB", batch_tokens=256)
    for a, b in zip(here.modules, there.modules, strict=True):
        assert a.name == b.name
        assert (b.nfn, b.nfn_squared) == pytest.approx((a.nfn, a.nfn_squared), rel=1e-5)


def test_what_fits_in_memory_is_left_there(folder: Path) -> None:
    model, _ = load(identify(str(folder)), Loading(dtype="float32", device="cpu", offload="disk"))
    assert not is_offloaded(model)


@pytest.mark.parametrize(("batch_tokens", "times"), [(None, 1), (10**6, 1), (300, 2)])
def test_each_weight_is_fetched_once_for_a_batch_and_never_for_the_probes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, batch_tokens: int | None, times: int
) -> None:
    from accelerate.hooks import AlignDevicesHook

    fetched: list[Any] = []
    original = AlignDevicesHook.pre_forward

    def count(hook: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        fetched.append(module)
        return original(hook, module, *args, **kwargs)

    model, tokenizer = load(
        identify(str(folder)), Loading(dtype="float32", device="cpu", offload="disk", max_memory="600KB")
    )
    texts = ["a" * 200, "b" * 200]
    monkeypatch.setattr(AlignDevicesHook, "pre_forward", count)
    scores = score(model, tokenizer, texts, batch_tokens=batch_tokens)
    # The first block is asked what its fused modules are made of, and fetched for that.
    linear = {m.name: model.get_submodule(m.name) for m in scores.modules if m.layer}
    offloaded = [module for module in linear.values() if is_offloaded(module)]
    assert offloaded
    assert [sum(module is one for module in fetched) for one in offloaded] == [times] * len(offloaded)


def test_what_is_fetched_is_counted_and_stored(tmp_path: Path) -> None:
    """All that lies on the disk of the body, once, in bytes; and nothing of the counting stays."""
    qwen2().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model, tokenizer = load(
        identify(str(tmp_path)), Loading(dtype="float32", device="cpu", offload="disk", max_memory="600KB")
    )
    away = sum(weight.nbytes for name, weight in model.named_parameters() if weight.is_meta and "lm_head" not in name)
    with counted_reads(model) as read:
        scores = score(model, tokenizer, TEXTS)
        assert read() == away
    assert f"{away:,} bytes of weights were fetched from outside of the device's memory" in scores.warnings
    again = score(model, tokenizer, TEXTS)
    assert again.warnings == scores.warnings


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
def test_the_system_is_asked_for_the_next_layer_while_one_computes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each offloaded weight before it is fetched, and no byte beside them."""
    model, tokenizer = load(
        identify(str(folder)), Loading(dtype="float32", device="cpu", offload="disk", max_memory="600KB")
    )
    file = folder / "model.safetensors"
    length = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + length])
    wholes = {(8 + length + told["data_offsets"][0]): name for name, told in header.items() if name != "__metadata__"}
    events: list[tuple[str, str]] = []

    def advised(descriptor: int, start: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        assert os.readlink(f"/proc/self/fd/{descriptor}") == str(file)
        begin, end = header[wholes[start]]["data_offsets"]
        assert size == end - begin  # less than a piece
        events.append(("asked", wholes[start]))

    fetch = OffloadedWeightsLoader.__getitem__

    def fetched(loader: Any, name: str) -> Any:
        events.append(("fetched", loader.index[name].get("weight_name", name)))
        return fetch(loader, name)

    monkeypatch.setattr(os, "posix_fadvise", advised)
    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", fetched)
    score(model, tokenizer, TEXTS)
    wanted = list(dict.fromkeys(name for what, name in events if what == "fetched"))
    late = [name for name in wanted if ("asked", name) not in events[: events.index(("fetched", name))]]
    assert len(wanted) > 8
    assert not [name for name in late if re.search(r"\.[1-9]\d*\.", name)], "nothing is late but the first layer"


def test_batches_grow_where_each_fetches_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("plop_cli.scoring.batches.available_memory", lambda: 16 << 30)
    assert (default_budget(cpu), default_budget(cpu, width=100_000)) == (512, 8192)
    assert (default_budget(gpu), default_budget(gpu, width=100_000)) == (16384, 65536)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as torchrun tells: they share the memory
    assert default_budget(cpu, width=100_000) == 2048
    monkeypatch.setattr("plop_cli.scoring.batches.available_memory", lambda: 0)
    assert default_budget(cpu, width=100_000) == 512


def test_from_the_command_line_it_is_the_same_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    command = ["score", str(folder), "--task", "sample/math", "-n", "2", "--max-length", "128", "--json"]
    there = CliRunner().invoke(app, [*command, "--offload", "disk", "--max-memory", "600KB"], catch_exceptions=False)
    assert there.exit_code == 0, there.stderr
    here = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(here.stdout) == json.loads(there.stdout) | {"cached": True}


@pytest.mark.parametrize(
    ("device", "options", "said"),
    [
        ("cpu", {"max_memory": "2GB"}, "give --offload disk or --offload cpu"),
        ("cpu", {"offload": "cpu"}, "the weights are on the CPU already"),
        ("cpu", {"offload": "disk", "max_memory": "2 bananas"}, "'2 bananas' is no size"),
        ("mps", {"offload": "disk"}, "--offload is for CUDA and the CPU"),
    ],
)
def test_what_makes_no_sense_is_said(device: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlopError, match=said):
        device_map(Loading(device=device, **options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs here")
def test_splitting_over_gpus_needs_gpus() -> None:
    with pytest.raises(PlopError, match="splits a model over GPUs and there are none"):
        device_map(Loading(device="cpu", split=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA GPUs here")
def test_a_model_split_over_gpus_has_the_same_scores(folder: Path) -> None:
    source = identify(str(folder))
    here, there = (
        score(*load(source, Loading(dtype="float32", device="cuda", split=split)), TEXTS) for split in (False, True)
    )
    for a, b in zip(here.modules, there.modules, strict=True):
        assert b.nfn == pytest.approx(a.nfn, rel=1e-4)


def test_offloaded_weights_need_no_room_for_a_wide_dtype(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plop_cli.models.devices.available_memory", lambda: 1)
    source = identify(str(folder))
    loading, note = resolve_dtype(Loading(device="cpu", offload="disk"), source)
    assert (loading.dtype, note) == ("float32", None)


def test_a_module_tells_where_it_computes(folder: Path) -> None:
    model, _ = load(identify(str(folder)), Loading(dtype="float32", device="cpu", offload="disk", max_memory="600KB"))
    devices = {execution_device(module) for module in model.modules() if hasattr(module, "weight")}
    assert devices == {torch.device("cpu")}


PEAK = """
import json, re, sys, time
from plop_cli import score
from plop_cli.models.loading import load, skeleton
from plop_cli.models.source import Loading, identify
folder, texts, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
model, tokenizer = load(identify(folder), Loading(dtype="float32", device="cpu", **options))
away = sum(p.numel() * p.element_size() for p in model.parameters() if p.is_meta)
started = time.perf_counter()
scores = score(model, tokenizer, texts, batch_tokens=1024)
seconds = time.perf_counter() - started
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(json.dumps({"peak": peak, "away": away, "seconds": seconds, "modules": [m.nfn for m in scores.modules]}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_two_thirds_of_smollm2_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same scores, and a peak that is lower by what stayed on disk. Prints what that costs.

    In float32 from a bfloat16 checkpoint, as the model is published: what is in memory is then no mapped file.
    """
    save_smollm2(tmp_path, torch.bfloat16)
    texts = sample_texts("math", 8)

    def run(**options: str) -> Any:
        command = [sys.executable, "-c", PEAK, str(tmp_path), json.dumps(texts), json.dumps(options)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    here, there = run(), run(offload="disk", max_memory="270MB")
    layers = sum(4 * p.numel() for p in skeleton(identify(str(tmp_path))).model.layers.parameters())
    with capsys.disabled():
        sys.stdout.write(
            f"\nSmolLM2, {there['away'] / layers:.0%} of its layers on disk ({there['away'] / 1e6:.0f} MB): peak "
            f"{here['peak'] / 1e6:.0f} → {there['peak'] / 1e6:.0f} MB, "
            f"{here['seconds']:.1f} → {there['seconds']:.1f} s\n"
        )
    assert there["away"] >= 2 / 3 * layers
    assert there["modules"] == pytest.approx(here["modules"], rel=1e-5)
    assert here["peak"] - there["peak"] >= there["away"]


def test_the_folder_for_resaved_weights_goes_with_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    places = []
    make = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *a, **k: places.append(make(*a, **k)) or places[-1])
    model, _ = load(identify(str(folder)), Loading(dtype="float32", device="cpu", offload="disk", max_memory="600KB"))
    assert places
    assert Path(places[0]).is_dir()
    del model
    gc.collect()
    assert not Path(places[0]).exists()


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 1 MiB for temporary files."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_said_and_left_clean(small_disk: Path, tmp_path: Path) -> None:
    """The experts of a layer lie one by one in the file, and are fused in memory: those are written anew."""
    sizes = {"hidden_size": 64, "intermediate_size": 512, "num_local_experts": 8, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300}
    MixtralForCausalLM(MixtralConfig(**sizes, **heads)).save_pretrained(tmp_path / "moe")
    byte_tokenizer().save_pretrained(tmp_path / "moe")
    with pytest.raises(PlopError, match=r"no space is left in .*disk for weights of moe .* \$TMPDIR"):
        load(identify(str(tmp_path / "moe")), Loading(dtype="float32", device="cpu", offload="disk", max_memory="1MB"))
    assert list(small_disk.iterdir()) == []


KILLED = """
import sys, time
from plop_cli.models.scratch import Scratch, remove_left
scratch = Scratch()
(scratch.folder / "weights").write_bytes(b"many")
print(scratch.folder, flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    other = tmp_path / "plop-something"
    other.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        remove_left()
        assert (folder / "weights").exists(), "it is in use"
        process.kill()
        process.wait()
    assert (folder / "weights").exists()
    remove_left()
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_command_that_is_killed_leaves_no_folder_and_no_lock(folder: Path, tmp_path: Path, number: int) -> None:
    scratch, registry = tmp_path / "tmp", tmp_path / "registry.db"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "plop_cli", "score", str(folder), "--task", "sample/math", "--registry", registry]
    offloaded = [*command, "--offload", "disk", "--max-memory", "600KB", "--batch-tokens", "64", "--max-length", "128"]
    with subprocess.Popen(offloaded, env=environment, stderr=subprocess.DEVNULL) as process:
        while not list(scratch.glob("plop-offload-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert bool(list(scratch.glob("plop-offload-*"))) == (number == signal.SIGKILL)
    subprocess.run([*command, "-n", "2", "--max-length", "128"], env=environment, check=True, capture_output=True)
    assert list(scratch.glob("plop-offload-*")) == []
    with Registry(registry) as store:
        assert store.check() == []
        assert len(store.runs()) == 1
