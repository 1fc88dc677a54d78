"""Model files that nobody wrote by hand: whatever they hold is loaded or refused in words, within little memory."""

from __future__ import annotations

import copy
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from plop_cli.errors import PlopError
from plop_cli.models import fingerprints
from plop_cli.models.fingerprints import count_elements
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from small_models import byte_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

EACH = pytest.mark.parametrize("examples", [pytest.param(25), pytest.param(2_000, marks=pytest.mark.slow)])
HERE = Loading(dtype="float32", device="cpu")

NUMBERS = st.sampled_from([-1, 0, 1, 3, 64, 10**4, 10**5, 10**6, 10**9, 2**31, 2**63, 10**30]) | st.integers()
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def quickly(examples: int) -> Any:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks, derandomize=True, database=None)


@contextmanager
def within(megabytes: int) -> Iterator[None]:
    """The peak of resident memory, counted from here, where the system tells it."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not clear.exists():
        yield
        return
    clear.write_text("5")  # starts the peak anew

    def peak() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

    before = peak()
    yield
    assert (peak() - before) / 1024 < megabytes


def refusal(run: Callable[[], object]) -> str | None:
    """What PlopError says; None where there is none. Any other error is a failure."""
    try:
        run()
    except PlopError as error:
        return str(error)
    return None


# Safetensors headers

TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F8_E4M3", "I64", "F99"]) | VALUES,
        "shape": st.lists(NUMBERS, max_size=4) | VALUES,
        "data_offsets": st.lists(NUMBERS, max_size=3) | st.just([0, 16]) | VALUES,
    },
)
HEADERS = st.dictionaries(st.text(max_size=8), TENSORS | VALUES, max_size=4) | VALUES
FILES = st.tuples(
    HEADERS.map(lambda header: json.dumps(header).encode()) | st.binary(max_size=200),
    st.none() | NUMBERS.map(lambda number: number % 2**64),
    st.binary(max_size=32),
).map(lambda file: struct.pack("<Q", len(file[0]) if file[1] is None else file[1]) + file[0] + file[2])


@EACH
def test_a_safetensors_file_is_counted_or_refused(examples: int, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"

    @quickly(examples)
    @given(FILES | st.binary(max_size=100))
    def try_out(content: bytes) -> None:
        file.write_bytes(content)
        said = refusal(lambda: count_elements(file))
        assert said is None or "is no whole safetensors file" in said

    with within(1000):
        try_out()


# Configurations


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "tiny"
    widths = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=257, max_position_embeddings=64, **widths)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


WORDS = ["quantization_config", "auto_map", "transformers_weights", "text_config", "num_labels", "layer_types"]


def configurations(whole: dict[str, Any]) -> st.SearchStrategy[str]:
    """The whole one with some of its values changed, or of another type, or JSON that is none."""
    keys = st.sampled_from([*whole, *WORDS]) | st.text(max_size=8)
    models = st.sampled_from([*CONFIG_MAPPING_NAMES, "nonesuch"])
    changes = st.dictionaries(keys, VALUES, max_size=3)
    changed = st.builds(
        lambda values, kind, other: {**copy.deepcopy(whole), **values, **({"model_type": kind} if other else {})},
        changes,
        models,
        st.sampled_from([False, False, False, True]),
    )
    return changed.map(json.dumps) | VALUES.map(json.dumps) | st.text(max_size=100)


@EACH
def test_a_configuration_is_loaded_or_refused(
    examples: int, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder = Path(shutil.copytree(llama, tmp_path / "tiny"))
    whole = json.loads((llama / "config.json").read_text())
    loaded = 0

    @quickly(examples)
    @given(configurations(whole))
    def try_out(content: str) -> None:
        nonlocal loaded
        (folder / "config.json").write_text(content, encoding="utf-8", errors="surrogatepass")
        said = refusal(lambda: load(identify(str(folder)), HERE))
        loaded += said is None
        assert said is None or ("\n" not in said and len(said) < 1000)

    with within(1500):
        try_out()
    assert loaded, "some changes do no harm"
