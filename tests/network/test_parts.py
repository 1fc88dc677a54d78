"""Fused projections in parts: their rows as the sources of transformers have them, their NFN as Definition 1 has it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import architectures
import brute_force
from plop_cli import score
from plop_cli.network.modules import linear_modules
from plop_cli.network.parts import in_parts
from plop_cli.tables import run as tables
from plop_registry import Registry, Run
from small_models import byte_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["Half of 12 is 6, and half of 6 is 3.", "Why?", "A train leaves at noon; when does it arrive?"]
IDENTITY = dict.fromkeys(
    ("key", "model_id", "model_revision", "task_id", "task_revision", "texts_hash", "plop_version"), "x"
)

CPU = torch.device("cpu")

Rows = dict[str, list[int]]


def one_by_one(**widths: int) -> Rows:
    """All rows of one part, then all of the next."""
    rows, start = {}, 0
    for name, width in widths.items():
        rows[name] = list(range(start, start + width))
        start += width
    return rows


def head_by_head(heads: int, **widths: int) -> Rows:
    """The first head's rows of each part, then the second head's."""
    of_head, size = one_by_one(**widths), sum(widths.values())
    return {name: [head * size + row for head in range(heads) for row in rows] for name, rows in of_head.items()}


FUSED: dict[str, dict[str, Rows]] = {
    "Phi-3": {"qkv_proj": one_by_one(q=64, k=16, v=16), "gate_up_proj": one_by_one(gate=224, up=224)},
    "GPT-2": {"c_attn": one_by_one(q=64, k=64, v=64)},
    "GPT-NeoX": {"query_key_value": head_by_head(4, q=16, k=16, v=16)},
    "BLOOM": {"query_key_value": head_by_head(4, q=16, k=16, v=16)},
    "Falcon": {"query_key_value": one_by_one(q=80, k=16, v=16)},
    "Falcon (grouped)": {"query_key_value": head_by_head(2, q=32, k=8, v=8)},
    "ModernBERT": {"Wqkv": one_by_one(q=96, k=96, v=96), "Wi": one_by_one(gate=144, up=144)},
    "Mixtral": {"gate_up_proj": one_by_one(gate=224, up=224)},
    "Jamba": {"gate_up_proj": one_by_one(gate=224, up=224)},
    "Qwen3-MoE": {"gate_up_proj": one_by_one(gate=24, up=24)},
    "DeepSeek-V3": {"gate_up_proj": one_by_one(gate=32, up=32)},
    "gpt-oss": {"gate_up_proj": head_by_head(88, gate=1, up=1)},
}


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_the_rows_of_each_part_are_those_of_the_models_source_and_the_unfused_have_none(name: str) -> None:
    """Among the unfused is Qwen3, whose gate_proj and up_proj have the shape of q, k and v in one."""
    model = architectures.build(name)
    found: dict[str, Rows] = {}
    for module in in_parts(model, linear_modules(model)[0], CPU)[0]:
        rows = {part.name: part.of(torch.arange(module.out_features)).flatten().tolist() for part in module.parts}
        assert found.setdefault(module.type, rows) == rows, "the same in all modules of a type"
    assert {kind: rows for kind, rows in found.items() if rows} == FUSED.get(name, {})


@pytest.mark.parametrize("name", ["Phi-3", "GPT-2", "Falcon (grouped)", "gpt-oss"])
def test_the_nfn_of_a_part_is_that_of_a_brute_force_reading_of_definition_1(name: str) -> None:
    model, tokenizer = architectures.build(name), byte_tokenizer()
    scores = score(model, tokenizer, TEXTS)
    found = {(part.type, part.part): part for part in scores.parts}
    assert found.keys() == {(kind, part) for kind, rows in FUSED[name].items() for part in rows}
    for (kind, part), of in found.items():
        names = [module.name for module in scores.modules if module.type == kind]
        truth = brute_force.brute_force(model, tokenizer, TEXTS, names, rows=FUSED[name][kind][part])
        assert of.modules == len(names)
        assert (of.nfn, of.nfn_squared) == pytest.approx(tuple(map(fmean, zip(*truth, strict=True))), rel=0.01)
        assert of.stderr is not None
        assert 0 < of.stderr < 0.2


class Fragile(nn.Module):
    """A feed-forward that checks what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj = nn.Linear(64, 448), nn.Linear(224, 64)

    def forward(self, z: Any) -> Any:
        both = self.gate_up_proj(z)
        if both.abs().max() > 1000:
            raise ArithmeticError("too large")
        gate, up = both.chunk(2, dim=-1)
        return self.down_proj(nn.functional.silu(gate) * up)


def test_parts_that_cannot_be_looked_for_cost_no_score_and_are_said() -> None:
    model = architectures.build("Llama")
    model.model.layers[0].mlp = Fragile()
    scores = score(model, byte_tokenizer(), TEXTS)
    assert scores.parts == ()
    assert "gate_up_proj" in {kind.type for kind in scores.types}
    assert scores.warnings == (
        "gate_up_proj is not told in parts: the model fails on noise (ArithmeticError: too large)",
    )


def test_asking_a_model_leaves_no_hook_and_no_mode_behind() -> None:
    model = architectures.build("Phi-3").train()
    in_parts(model, linear_modules(model)[0], CPU)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# What becomes of them


@pytest.fixture
def phi3() -> Any:
    return score(architectures.build("Phi-3"), byte_tokenizer(), TEXTS)


def test_parts_are_in_json_only_where_there_are_any(phi3: Any) -> None:
    content = json.loads(json.dumps(phi3.to_dict(), allow_nan=False))
    assert [(part["type"], part["part"]) for part in content["parts"]] == [
        ("qkv_proj", "q"), ("qkv_proj", "k"), ("qkv_proj", "v"), ("gate_up_proj", "gate"), ("gate_up_proj", "up")
    ]  # fmt: skip
    assert "parts" not in score(architectures.build("Llama"), byte_tokenizer(), TEXTS).to_dict()


def test_parts_have_no_column_in_the_matrix_and_are_no_types(phi3: Any) -> None:
    assert phi3.matrix.sums.shape == (3, 8)
    assert {kind.type for kind in phi3.types} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


def test_parts_are_stored_shown_and_travel(phi3: Any, tmp_path: Path) -> None:
    with Registry(tmp_path / "one.db") as one, Registry(tmp_path / "other.db") as other:
        run = one.add(phi3.as_run(**IDENTITY), phi3.matrix)
        assert run.parts == one.get(run.id).parts == phi3.parts
        assert one.check() == []
        other.import_lines(one.export_lines(), "lines")
        assert other.get(run.id) == one.get(run.id)
    assert Run.from_content(run.content(), run.id) == run
    console = Console(width=120)
    with console.capture() as capture:
        console.print(tables.run_table(run))
    lines = capture.get().splitlines()
    at = next(index for index, line in enumerate(lines) if "qkv_proj" in line)
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["q", "k", "v"]
