"""All language models of transformers, small: no traceback, nothing silent, and what is scored is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import walk

ROOT = Path(__file__).parents[2]
SOME = [
    ("causal", "bamba"),
    ("causal", "falcon_h1"),
    ("causal", "gemma3n_text"),
    ("causal", "gemma4_text"),
    ("causal", "glm4_moe"),
    ("causal", "inkling_text"),
    ("causal", "jamba"),
    ("causal", "lfm2"),
    ("causal", "longcat_flash"),
    ("causal", "mamba"),
    ("causal", "nemotron_h"),
    ("causal", "qwen3_5_text"),
    ("causal", "qwen3_next"),
    ("causal", "xlnet"),
    ("masked", "deberta-v2"),
    ("masked", "modernbert"),
    ("seq2seq", "marian"),
]


@pytest.mark.parametrize(("kind", "model_type"), SOME)
def test_a_family_is_scored_as_by_brute_force_and_adapted_as_told(kind: str, model_type: str) -> None:
    row = walk.walked(kind, model_type)
    assert (walk.outcome(row) in ("in full", "in part"), row["wrong"]) == (True, []), row


@pytest.mark.slow
def test_the_page_of_all_families_is_true(tmp_path: Path) -> None:
    """Walks them all, in two processes; docs/families.md is what comes of it."""
    program = [sys.executable, str(ROOT / "tests" / "support" / "walk.py")]
    shares = [(tmp_path / f"{share}.jsonl", f"{share}/2") for share in range(2)]
    for process in [subprocess.Popen([*program, str(file), "--share", share]) for file, share in shares]:
        assert process.wait() == 0
    rows = tmp_path / "walk.jsonl"
    rows.write_text("".join(file.read_text() for file, _ in shares))
    assert walk.page(walk.read(rows)) == (ROOT / "docs" / "families.md").read_text()
