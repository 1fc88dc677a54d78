"""Fused experts: watched without being changed, counted where they saw no token, left out where none can watch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from rich.console import Console
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import architectures
from plop_cli import PlopError, score
from plop_cli.method import estimates
from plop_cli.method.choice import PLOP, Samples, choose
from plop_cli.network.experts import observable, observing
from plop_cli.network.modules import linear_modules
from plop_cli.tables import run as tables
from small_models import byte_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = ["Why?", "Half of 12 is 6."]
MIXTURES = ["Mixtral", "Qwen3-MoE", "gpt-oss", "DeepSeek-V3"]
IDS = torch.tensor([list(b"Half of 12 is 6, and half of 6 is 3.")])


def experts_of(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if observable(module)]


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
@torch.no_grad()
def test_observed_experts_compute_what_unobserved_ones_do(name: str, implementation: str) -> None:
    model = architectures.build(name)
    model.set_experts_implementation(implementation)
    expected = model(IDS).logits
    seen: list[str] = []
    with observing(dict.fromkeys(experts_of(model), lambda parameter, *_: seen.append(parameter))):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert seen == ["gate_up_proj", "down_proj"] * len(experts_of(model))


def test_experts_without_a_gate_are_scored_too() -> None:
    """Nemotron-H's are up, activation, down; here in one module, with all else as it is in a model."""
    from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts

    config = hf.NemotronHConfig(hidden_size=32, n_routed_experts=4, moe_intermediate_size=16)
    experts = NemotronHExperts(config)
    torch.manual_seed(0)
    for parameter in experts.parameters():
        nn.init.normal_(parameter)
    names = [m.name for m in linear_modules(nn.ModuleDict({"experts": experts}))[0]]
    assert names[3:5] == ["experts.up_proj[3]", "experts.down_proj[0]"]
    inputs = torch.randn(5, experts.up_proj.shape[2]), torch.tensor([[0, 2]] * 5), torch.rand(5, 2)
    config._experts_implementation = "eager"
    expected = experts(*inputs)
    with observing({experts: lambda *_: None}), torch.no_grad():
        torch.testing.assert_close(experts(*inputs), expected)


@pytest.mark.parametrize("chosen", ["eager", None])
@torch.no_grad()
def test_the_implementation_is_restored_also_when_the_pass_fails(chosen: str | None) -> None:
    model, during = architectures.build("Mixtral"), []

    def fail(*_: Any) -> None:
        during.append(model.config._experts_implementation)
        raise ArithmeticError

    model.config._experts_implementation = chosen
    with pytest.raises(ArithmeticError), observing(dict.fromkeys(experts_of(model), fail)):
        model(IDS)
    assert during == ["plop"]
    assert model.config._experts_implementation == chosen
    assert "plop" not in ALL_EXPERTS_FUNCTIONS


def test_experts_without_tokens_are_counted_once_for_each_parameter_and_layer() -> None:
    model = architectures.build("Qwen3-MoE")
    scores = score(model, byte_tokenizer(), FEW)
    all_names = {m.name for m in linear_modules(model)[0]}
    silent = all_names - {m.name for m in scores.modules}
    idle = {s.name: s.reason for s in scores.skipped if "saw no token" in s.reason}
    assert silent
    assert idle == {
        place: f"{sum(name.startswith(place) for name in silent)} of 16 experts saw no token"
        for place in {name.partition("[")[0] for name in silent}
    }
    assert scores.warnings == (
        f"{len(silent)} of {16 * len(idle)} expert weights saw no token and have no score; "
        "more texts reach more of them",
    )
    for kind in scores.types:
        assert kind.modules == sum(m.type == kind.type for m in scores.modules)


def test_tokens_of_all_experts_are_those_of_the_texts_times_the_experts_of_each_token() -> None:
    scores = score(architectures.build("Mixtral"), byte_tokenizer(), ["Why?", "Half of 12 is 6."], batch_tokens=64)
    counts = np.array([scores.matrix.counts[:, i] for i, m in enumerate(scores.modules) if m.type == "gate_up_proj"])
    assert counts.sum(axis=0).tolist() == [4 * 2 * 2, 16 * 2 * 2], "2 experts for a token in each of 2 layers"


def test_scores_of_experts_do_not_depend_on_batches() -> None:
    model, texts = (
        architectures.build("gpt-oss"),
        ["Why?", "Half of 12 is 6.", "What is it that we would like to know?"],
    )
    one, all_at_once = (score(model, byte_tokenizer(), texts, batch_tokens=n) for n in (1, 1024))
    assert {m.name: m.tokens for m in one.modules} == {m.name: m.tokens for m in all_at_once.modules}
    np.testing.assert_allclose(one.matrix.sums, all_at_once.matrix.sums, rtol=1e-4)


def test_one_experts_zero_weight_is_named_and_the_others_keep_their_scores() -> None:
    model = architectures.build("Mixtral")
    before = {m.name: m.nfn for m in score(model, byte_tokenizer(), FEW).modules}
    place = "model.layers.1.mlp.experts.down_proj"
    number = next(int(name[len(place) + 1 : -1]) for name in before if name.startswith(place))
    model.model.layers[1].mlp.experts.down_proj.data[number] = 0
    after = score(model, byte_tokenizer(), FEW)
    assert f"{place}[{number}] is left out: its weight is zero" in after.warnings
    assert {m.name: m.nfn for m in after.modules} == {
        name: nfn for name, nfn in before.items() if name != f"{place}[{number}]"
    }


def test_experts_with_a_forward_of_their_own_are_left_out_with_the_reason() -> None:
    widths = {"intermediate_size_mlp": 224, "head_dim": 16, "num_local_experts": 4, "moe_layers": [0, 1]}
    with torch.device("meta"):
        model = hf.AutoModelForCausalLM.from_config(hf.Llama4TextConfig(**architectures.LLAMA, **widths))
    found = {s.name: s.reason for s in linear_modules(model)[1]}
    assert found["model.layers.0.feed_forward.router"] == "a router chooses experts"
    assert found["model.layers.0.feed_forward.experts"] == (
        "Llama4TextExperts holds several matrices in one tensor and runs them in a way that cannot be watched"
    )


def test_experts_with_a_norm_after_them_or_packed_weights_are_left_out() -> None:
    model = architectures.build("Mixtral")
    first, second = experts_of(model)
    first.has_post_expert_norm = True
    second.down_proj = nn.Parameter(second.down_proj.to(torch.float8_e4m3fn), requires_grad=False)
    assert experts_of(model) == []
    with pytest.raises(PlopError):
        score(nn.ModuleDict({"experts": first}), byte_tokenizer(), ["x"])


@pytest.mark.parametrize("name", MIXTURES)
def test_routers_are_left_out(name: str) -> None:
    routers = [s.name for s in linear_modules(architectures.on_meta(name))[1] if s.reason == "a router chooses experts"]
    assert len(routers) == 2


def test_the_share_of_a_shared_expert_is_a_router_and_the_shared_expert_a_type() -> None:
    config = hf.Qwen2MoeConfig(**architectures.LLAMA, num_experts=4, moe_intermediate_size=16)
    with torch.device("meta"):
        modules, skipped = linear_modules(hf.AutoModelForCausalLM.from_config(config))
    reasons = {s.name: s.reason for s in skipped}
    assert reasons["model.layers.0.mlp.shared_expert_gate"] == "a router chooses experts"
    assert {"shared_expert.down_proj", "experts.down_proj"} <= {m.type for m in modules}


# What the matrix says of experts


def test_a_resample_in_which_an_expert_has_no_token_leaves_its_type_a_value() -> None:
    sums, counts = np.array([[1.0, 3.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [1.0, 0.0]])
    names, drawn = estimates.resampled_types(sums, counts, ["experts", "experts"])
    assert names == ["experts"]
    assert set(drawn[:, 0]) == {1.25, 1.0}, "of both experts, and of the first alone"
    enough = [np.tile(array, (4, 1)) for array in (sums, counts)]  # of fewer texts no confidence is told
    choice = choose([Samples(*enough, ["experts", "experts"])], PLOP)
    assert (choice.confidence, choice.frequency) == (1.0, {"experts": 1.0})


def test_an_expert_that_one_text_alone_reached_has_no_standard_error() -> None:
    sums, counts = np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([[1.0, 2.0], [1.0, 0.0]])
    phi = estimates.influence(sums, counts)
    first, second = estimates.standard_error(phi).tolist()
    assert first > 0
    assert math.isnan(second)
    of_type = estimates.by_type(phi, ["experts", "experts"])["experts"]
    assert estimates.standard_error(of_type[:, None])[0] == first


def test_the_table_shows_the_tokens_that_modules_saw_where_they_differ() -> None:
    tokenizer = byte_tokenizer()
    identity = dict.fromkeys(
        ("key", "model_id", "model_revision", "task_id", "task_revision", "texts_hash", "plop_version"), ""
    )

    def shown(name: str, by: str = "type") -> str:
        run = score(architectures.build(name), tokenizer, FEW).as_run(**identity)
        console = Console(width=120)
        with console.capture() as capture:
            console.print(tables.run_table(run, by=by))
        return capture.get()

    mixtral = shown("Mixtral")
    assert "tokens each" in mixtral
    assert " – " in next(line for line in mixtral.splitlines() if "gate_up_proj" in line)
    assert " 20 " in next(line for line in mixtral.splitlines() if "q_proj" in line)
    assert "tokens " in shown("Mixtral", by="module").splitlines()[2]
    assert "tokens each" not in shown("Llama")
