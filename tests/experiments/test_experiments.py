"""The experiments run, and their sections say what their results say."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from peft.helpers import find_kappa_target_modules
from torch import nn

from experiments import evidence, growth
from experiments.evidence import DOCS, PROGRAMS, page, results_of_page
from experiments.shared import baselines, training
from experiments.shared.data import gsm8k
from experiments.shared.markdown import interval, show, table
from experiments.shared.program import resized, results_of
from experiments.shared.summary import anchor, titled
from experiments.shared.verdicts import CANNOT, FAILED, HELD, judged, pooled
from plop_cli import PlopError
from plop_cli.report.vega import svg
from real_model import smollm2


def test_the_interval_is_students() -> None:
    """The table's 4.303 for two degrees of freedom, and 12.706 for one."""
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    assert interval([0.0, 2.0])[1] == pytest.approx(12.7062, rel=1e-5)
    assert math.isnan(interval([1.0])[1])
    assert (show([1.0]), show([1.0, 1.0])) == ("1.000", "1.000 ± 0.000")


def test_a_table_puts_numbers_on_the_right() -> None:
    assert table([{"type": "q", "nfn": "1.5"}]) == "| type | nfn |\n| --- | --: |\n| q | 1.5 |"


def test_gsm8k_of_one_file_keeps_its_last_fifth_for_testing(tmp_path: Path) -> None:
    rows = [{"question": str(number), "answer": ""} for number in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = [tmp_path / "pairs.jsonl"]
    assert gsm8k("train", files) + gsm8k("test", files) == rows
    assert len(gsm8k("test", files)) == 2


def test_settings_are_changed_by_name_and_keep_their_kind() -> None:
    changed = resized(training.Size(), ["steps=400", "rates=1e-4,0.001"])
    assert changed == replace(training.Size(), steps=400, rates=(1e-4, 1e-3))
    with pytest.raises(PlopError, match="there is no epochs; there are steps, batch"):
        resized(training.Size(), ["epochs=2"])
    with pytest.raises(PlopError, match="steps is a number, such as 40"):
        resized(training.Size(), ["steps=many"])


def test_results_of_the_demo_model_are_the_ones_of_the_page() -> None:
    assert results_of("sft", "demo", ".json").name == "sft.json"
    assert results_of("sft", "org/model@v1", ".quick.json").name == "sft.org--model--v1.quick.json"
    assert results_of("sft", "./my/model/", ".json").name == "sft.my--model.json"


class Known(nn.Module):
    """Weights whose singular values are known."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.steep, self.spiked = (nn.Linear(64, 64, bias=False) for _ in range(3))
        self.flat.weight.data = torch.eye(64)
        self.steep.weight.data = torch.diag(torch.arange(1.0, 65))
        self.spiked.weight.data = torch.diag(torch.cat([torch.full((1,), 200.0), torch.arange(1.0, 64)]))


def test_peers_order_known_spectra_as_kappatune_does() -> None:
    orders = baselines.orders(Known())
    assert orders["condition number"] == orders["stable rank"] == ["flat", "steep", "spiked"]
    found = find_kappa_target_modules(Known(), top_p=0.34, show_progress=False)
    assert found["target_modules"] == orders["condition number"][:1]


@pytest.mark.slow
def test_the_orders_of_peers_in_the_results_are_those_of_the_product() -> None:
    model, _ = smollm2()
    orders = baselines.orders(model)
    for name, key in (("singles", "orders"), ("stability", "without_data")):
        told = json.loads((results_of(name, "demo", ".json")).read_text(encoding="utf-8"))[key]
        assert told == {peer: orders[peer] for peer in told}


def test_feature_norms_under_signsgd_follow_the_recursion_of_the_proof() -> None:
    """Up to the term that falls with the width: 2 β t |⟨W₀z, S(V)⟩|/n, of order η T/√n."""
    found = growth.sign_sgd(1024, seed=3)
    assert found["turned"] == 0
    assert found["recursion"] < 0.1


def test_a_models_section_stands_below_its_programs_first() -> None:
    assert titled("## Placement\n\ntext", "gemma", below=True) == "### Placement, gemma\n\ntext"
    assert titled("## Placement\n\ntext", "gemma", below=False) == "## Placement, gemma\n\ntext"


def test_what_families_disagree_in_widens_the_pooled_interval() -> None:
    """Of three equal effects the mean is theirs; t of two degrees of freedom is 4.303."""
    mean, half = pooled([0.1, 0.1, 0.1], [0.02, 0.02, 0.02])
    assert (mean, half) == (pytest.approx(0.1), pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-3))
    mean, half = pooled([-1.0, 0.0, 1.0], [0.001, 0.001, 0.001])
    assert mean == pytest.approx(0)
    assert half == pytest.approx(4.303 * 1 / math.sqrt(3), rel=0.02)


def test_a_claim_is_decided_beyond_chance_over_seeds_and_over_pairs() -> None:
    sure, unsure = [0.1, 0.11, 0.12, 0.1], [0.1, -0.2, 0.3, 0.0]
    found = judged({"a": [sure, sure], "b": [sure, unsure], "c": [[-one for one in sure], [-one for one in sure]]})
    assert [one.verdict for one in found.values()] == [HELD, CANNOT, FAILED]
    assert found["a"].effect == pytest.approx(0.1075)


def test_the_page_is_what_the_committed_results_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures too: each that it shows is there."""
    monkeypatch.setattr(evidence, "write_figures", lambda charts, results: None)
    written = (DOCS / "evidence.md").read_text()
    assert page() == written
    shown = re.findall(r"\(evidence/([^)]+\.svg)\)", written)
    assert sorted(shown) == sorted(file.name for file in (DOCS / "evidence").iterdir())
    headings = {anchor(line.lstrip("# ")) for line in written.splitlines() if line.startswith("##")}
    assert set(re.findall(r"\(#([^)]+)\)", written)) <= headings


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_committed_results_become_figures(name: str) -> None:
    for results in results_of_page(name):
        for chart in import_module(f"experiments.{name}").draw(results).values():
            assert svg(chart.to_dict()).startswith("<svg")
