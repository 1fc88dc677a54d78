"""GGUF files: parsed once, the same bits, and nothing believed before it is checked."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plop_cli import PlopError
from plop_cli.models import gguf_file
from plop_cli.models.gguf_file import Tensor, metadata_of
from plop_cli.models.gguf_weights import TorchOfRounded, dequantize
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify

FLOAT32 = Loading(dtype="float32", device="cpu")
KINDS = [kind for kind in gguf.GGMLQuantizationType if kind in gguf.quants._type_traits]


@pytest.fixture(scope="module")
def demo() -> Path:
    """The file of the demo model."""
    source = identify("demo")
    assert source.folder
    assert source.gguf_file
    return source.folder / source.gguf_file


def test_metadata_is_parsed_once_for_configuration_tokenizer_and_weights(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[Path] = []
    walk = gguf_file._Parser.metadata

    def counted(parser: gguf_file._Parser) -> gguf_file.Metadata:
        walks.append(parser._path)
        return walk(parser)

    gguf_file._parsed.cache_clear()
    monkeypatch.setattr(gguf_file._Parser, "metadata", counted)
    monkeypatch.setattr(gguf.GGUFReader, "__init__", lambda *_: pytest.fail("gguf's own reader was used"))
    load(identify("demo"), FLOAT32)
    assert walks == [demo.resolve()]


def test_the_metadata_and_the_tensors_are_those_of_ggufs_own_reader(demo: Path) -> None:
    ours, theirs = metadata_of(demo), gguf.GGUFReader(demo)
    told = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    parsed = {name: [field.parts[i] for i in field.data] for name, field in ours.fields.items()}
    assert {name: value if isinstance(told[name], list) else value[0] for name, value in parsed.items()} == told
    for own, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (own.name, own.tensor_type, own.n_elements) == (other.name, other.tensor_type, other.n_elements)
        rows = own.rows(0, own.n_rows)
        assert rows.dtype == other.data.dtype
        assert np.array_equal(rows.reshape(other.data.shape), other.data)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_is_bit_for_bit_what_transformers_makes_of_the_file(demo: Path, dtype: str) -> None:
    model, tokenizer = load(identify("demo"), Loading(dtype=dtype, device="cpu"))
    plain = AutoModelForCausalLM.from_pretrained(demo.parent, gguf_file=demo.name, dtype=getattr(torch, dtype))
    own, other = model.state_dict(), plain.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(demo.parent, gguf_file=demo.name).get_vocab()


def stored(path: Path, rows: np.ndarray, kind: gguf.GGMLQuantizationType) -> Tensor:
    """A tensor of these blocks, in a file of its own."""
    rows.tofile(path)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return Tensor(path, "weight", kind, (rows.shape[1] // size * block, len(rows)), rows.nbytes, 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_dequantizing_gives_the_same_bits(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    """In float32 those of gguf, and in 16 bits those that they are rounded to."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows = np.random.default_rng(0).integers(0, 256, (70, size * 4), dtype=np.uint8)
    rows[:, :: 2 if kind == gguf.GGMLQuantizationType.BF16 else size] &= 0x3F
    tensor = stored(tmp_path / "blocks", rows, kind)
    with np.errstate(all="ignore"):
        ours, theirs = dequantize(tensor, kind), gguf.dequantize(rows, kind)
    known = ~np.isnan(theirs)
    assert ours.shape == theirs.shape == (70, 4 * block)
    assert np.array_equal(known, ~np.isnan(ours))
    assert np.array_equal(ours[known].view(np.int32), theirs[known].view(np.int32))
    for dtype in (torch.bfloat16, torch.float16):
        rounded = TorchOfRounded(dtype).from_numpy(np.copy(dequantize(tensor, kind, dtype)))
        expected = torch.from_numpy(theirs).to(dtype)
        assert rounded.dtype == dtype
        assert torch.equal(rounded.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("number", [0, 1, 70])
def test_in_pieces_or_in_none_they_are_the_same(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = gguf.GGMLQuantizationType.Q5_1
    rows = np.random.default_rng(0).integers(0, 60, (number, 24 * 4), dtype=np.uint8)
    monkeypatch.setattr("plop_cli.models.gguf_weights._AT_ONCE", 300)  # two rows at a time
    ours = dequantize(stored(tmp_path / "blocks", rows, kind), kind)
    assert ours.shape == (number, 128)
    assert number == 0 or np.array_equal(ours, gguf.dequantize(rows, kind))


def test_rounded_weights_can_be_moved_about_but_not_computed_with(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    rows = np.random.default_rng(0).integers(0, 60, (6, 34), dtype=np.uint8)
    rounded = dequantize(stored(tmp_path / "blocks", rows, kind), kind, torch.bfloat16)
    exact = gguf.dequantize(rows, kind)

    def moved(weights: np.ndarray) -> np.ndarray:
        return np.stack(np.array_split(weights, 3), axis=1)[:, ::-1].T

    ours = TorchOfRounded(torch.bfloat16).from_numpy(np.copy(moved(rounded)))
    assert torch.equal(ours, torch.from_numpy(np.copy(moved(exact))).to(torch.bfloat16))
    for compute in (lambda: rounded - 1, lambda: np.log(-moved(rounded)), lambda: moved(rounded).sum()):
        with pytest.raises(TypeError, match="rounded already"):
            compute()


def written(path: Path) -> bytes:
    """A whole small file."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(32)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("token_embd.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def replaced(content: bytes, at: int, form: str, value: int) -> bytes:
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda whole: b"", "no whole GGUF file"),
        (lambda whole: b"GGUX" + whole[4:], "does not begin with GGUF"),
        (lambda whole: replaced(whole, 4, "<I", 99), "version 99"),
        (lambda whole: whole[:30], "cut short"),
        (lambda whole: whole[: len(whole) // 2], "cut short|reaches past its end"),
        (lambda whole: whole[:-16], "token_embd.weight reaches past its end"),
        (lambda whole: replaced(whole, 8, "<Q", 2**62), "cut short, or a length in it is wrong"),
        (lambda whole: replaced(whole, 16, "<Q", 2**62), "cut short, or a length in it is wrong"),
        (lambda whole: replaced(whole, 24, "<Q", 2**62), "cut short, or a length in it is wrong"),
        (lambda whole: replaced(whole, whole.index(b"tokens") + 6 + 8, "<Q", 2**62), "cut short, or a length"),
        (lambda whole: replaced(whole, whole.index(b"tokens") + 6, "<I", 77), "a kind that is not known"),
        (lambda whole: replaced(whole, whole.index(b"alignment") + 9 + 4, "<I", 0), "begin at multiples of 0"),
        (lambda whole: replaced(whole, whole.index(b"alignment") + 9, "<I", 6), "begin at multiples of"),
        (
            lambda whole: replaced(whole, whole.index(b"embd.weight") + 11 + 4 + 16, "<I", 8),
            "no whole number of blocks",
        ),
        (lambda whole: replaced(whole, whole.index(b"embd.weight") + 11, "<I", 2**32 - 1), "cut short, or a length"),
        (lambda whole: replaced(whole, whole.index(b"embd.weight") + 15, "<Q", 2**62), "reaches past its end"),
        (lambda whole: replaced(whole, whole.index(b"embd.weight") + 35, "<Q", 2**63), "reaches past its end"),
        (lambda whole: whole[: len(whole) - 128 - 12] + struct.pack("<I", 9999) + whole[-136:], "GGUF file"),
    ],
)
def test_a_damaged_file_is_said_before_anything_is_allocated(broken: object, said: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(broken(written(file)))  # type: ignore[operator]
    with pytest.raises(PlopError, match=said):
        metadata_of(file)


def test_whatever_byte_is_wrong_a_file_is_read_or_refused(tmp_path: Path) -> None:
    """Every byte before the values in turn, every number of eight bytes, and every place to be cut at."""
    file = tmp_path / "model.gguf"
    whole = written(file)
    broken = [whole[:end] for end in range(len(whole))]
    broken += [replaced(whole, at, "<B", value) for at in range(len(whole) - 128) for value in (0, 1, 8, 9, 127, 255)]
    broken += [
        replaced(whole, at, "<Q", value) for at in range(len(whole) - 128) for value in (2**32, 2**62, 2**64 - 1)
    ]
    refused = 0
    for content in broken:
        file.write_bytes(content)
        gguf_file._parsed.cache_clear()
        try:
            assert all(tensor.n_bytes <= len(content) for tensor in metadata_of(file).tensors)
        except PlopError:
            refused += 1
    assert len(whole) <= refused < len(broken)


def test_a_file_that_changed_is_parsed_again(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    written(file)
    assert len(metadata_of(file).tensors) == 1
    file.write_bytes(b"GGUF")
    with pytest.raises(PlopError, match="no whole GGUF file"):
        metadata_of(file)
