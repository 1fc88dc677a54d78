"""score() on real and random weights: against brute force, however the texts are batched, and when things go wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import brute_force
import real_model
import small_models
from plop_cli import PlopError, score
from plop_cli.scoring.batches import batches
from small_models import Toy, gaussian

ATTENTION = {name: f"model.layers.{{}}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
MLP = {name: f"model.layers.{{}}.mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
GPT2 = {
    "c_attn": "transformer.h.{}.attn.c_attn",
    "attn.c_proj": "transformer.h.{}.attn.c_proj",
    "c_fc": "transformer.h.{}.mlp.c_fc",
    "mlp.c_proj": "transformer.h.{}.mlp.c_proj",
}
BERT = {
    "query": "bert.encoder.layer.{}.attention.self.query",
    "key": "bert.encoder.layer.{}.attention.self.key",
    "value": "bert.encoder.layer.{}.attention.self.value",
    "attention.output.dense": "bert.encoder.layer.{}.attention.output.dense",
    "intermediate.dense": "bert.encoder.layer.{}.intermediate.dense",
    "layer.output.dense": "bert.encoder.layer.{}.output.dense",
}


@dataclass
class Case:
    """A model, real texts for it, and by hand which modules each type has."""

    model: Any
    tokenizer: Any
    texts: list[str]
    types: dict[str, list[str]]


def _case(name: str) -> Case:
    texts = real_model.sample_texts("math", 16)
    if name == "smollm2":
        return Case(*real_model.smollm2(), texts, _types(ATTENTION | MLP, layers=30))
    places = {"gpt2": GPT2, "qwen2": ATTENTION | MLP, "bert": BERT}[name]
    model = getattr(small_models, name)()
    return Case(model, small_models.byte_tokenizer(), texts, _types(places, layers=3))


def _types(places: dict[str, str], *, layers: int) -> dict[str, list[str]]:
    return {kind: [place.format(layer) for layer in range(layers)] for kind, place in places.items()}


@pytest.fixture(params=["smollm2", "gpt2", "qwen2", "bert"])
def case(request: pytest.FixtureRequest) -> Case:
    return _case(request.param)


@pytest.fixture
def qwen2() -> Case:
    return _case("qwen2")


def by_module(scores: Any) -> dict[str, tuple[float, float]]:
    return {module.name: (module.nfn, module.nfn_squared) for module in scores.modules}


# For Toy: a weight, five inputs, and texts of these inputs.
W, Z, TEXTS = gaussian(7, 8, seed=5), gaussian(5, 8, seed=6), ["0", "1 2", "3 4 0 1 2"]


def score_toy(toy: nn.Module, texts: list[str] = TEXTS) -> Any:
    return score(toy, Toy.tokenizer(5), texts)


# Against Definition 1


def test_scores_are_those_of_a_brute_force_reading_of_definition_1(case: Case) -> None:
    """Every module within 1.5 %, every type within 0.5 %, plain and squared."""
    scores = score(case.model, case.tokenizer, case.texts)
    found = by_module(scores)
    names = [name for of_type in case.types.values() for name in of_type]
    truth = dict(zip(names, brute_force.brute_force(case.model, case.tokenizer, case.texts, names), strict=True))
    assert found.keys() == truth.keys()
    for name, expected in truth.items():
        assert found[name] == pytest.approx(expected, rel=0.015), name
    assert {kind.type for kind in scores.types} == case.types.keys()
    for kind in scores.types:
        expected = brute_force.mean([truth[name] for name in case.types[kind.type]])
        assert (kind.nfn, kind.nfn_squared) == pytest.approx(expected, rel=0.005), kind.type


# However the texts are batched


def test_scores_do_not_depend_on_batches_padding_side_or_order(case: Case) -> None:
    """Within 1e-4 relative in float32; and the same call again gives the same digits."""
    texts = ["Why?", "Half of 12 is 6.", *case.texts[:8]]
    side = case.tokenizer.padding_side
    expected = score(case.model, case.tokenizer, texts, batch_tokens=16384)
    assert by_module(score(case.model, case.tokenizer, texts, batch_tokens=16384)) == by_module(expected)
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = score(case.model, case.tokenizer, [texts[i] for i in order], batch_tokens=256)
    case.tokenizer.padding_side = "left" if side == "right" else "right"
    try:
        other_side = score(case.model, case.tokenizer, texts, batch_tokens=256)
    finally:
        case.tokenizer.padding_side = side
    for scores in (shuffled, other_side):
        assert by_module(scores).keys() == by_module(expected).keys()
        for name, values in by_module(scores).items():
            assert values == pytest.approx(by_module(expected)[name], rel=1e-4), name
    np.testing.assert_allclose(other_side.matrix.sums, expected.matrix.sums, rtol=1e-4)
    np.testing.assert_allclose(shuffled.matrix.sums, expected.matrix.sums[order], rtol=1e-4)
    assert shuffled.matrix.texts.tolist() == expected.matrix.texts[order].tolist()


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "bert"])
def test_what_a_padding_token_holds_does_not_matter(name: str) -> None:
    case = _case(name)
    texts = ["Why?", *case.texts]
    expected = score(case.model, case.tokenizer, texts)
    case.model.get_input_embeddings().weight.data[case.tokenizer.pad_token_id] = 1e6
    assert by_module(score(case.model, case.tokenizer, texts)) == by_module(expected)


def test_padding_is_never_counted_even_when_it_is_nan() -> None:
    alone = [score_toy(Toy(W, Z), [text]).matrix.sums[0, 0] for text in TEXTS]
    together = score_toy(Toy(W, Z))
    assert together.matrix.sums[:, 0] == pytest.approx(alone, rel=1e-6)
    assert together.matrix.counts[:, 0].tolist() == [1, 2, 5]


def test_a_module_given_sequence_first_inputs_is_scored_on_its_tokens_alone() -> None:
    """XLNet's layers see (length, batch, features), which has as many vectors as the mask has places."""

    class SequenceFirst(Toy):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return super().forward(input_ids.T, attention_mask.T)

    toy = SequenceFirst(W, Z)
    toy.embedding.weight.data[5] = 1
    together = score_toy(toy).matrix
    assert together.counts[:, 0].tolist() == [1, 2, 5]
    assert together.sums[:, 0] == pytest.approx(score_toy(Toy(W, Z)).matrix.sums[:, 0], rel=1e-6)


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_no_batch_is_as_long_as_it_is_wide(rows: int) -> None:
    """Or its shape would not tell which axis is which."""
    shapes = [batch.input_ids.shape for batch in batches([[1] * rows] * rows, batch_tokens=512, pad=0)]
    assert sum(count for count, _ in shapes) == rows
    assert all(count != length for count, length in shapes)


def test_an_input_that_is_changed_in_place_is_measured_again() -> None:
    """The norms of z are shared between modules that are given the same tensor, but only while it holds the same z."""

    class InPlace(Toy):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            z = self.embedding(input_ids)
            self.linear(z)
            return self.linear(z.mul_(3))

    expected = score_toy(Toy(W, Z)).modules[0].nfn
    assert score_toy(InPlace(W, Z)).modules[0].nfn == pytest.approx(expected, rel=1e-6)


# The model is left as it was found


def traces(model: nn.Module) -> Any:
    """What a pass could leave behind in a model."""
    return [
        (
            name,
            module.training,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            [(p.requires_grad, p.grad is None) for p in module.parameters(recurse=False)],
        )
        for name, module in model.named_modules()
    ]


def _half_in_training(model: nn.Module) -> None:
    model.train()
    model.model.layers[1].eval()


def test_training_flags_hooks_gradients_and_random_state_are_left_alone(qwen2: Case) -> None:
    _half_in_training(qwen2.model)
    before = traces(qwen2.model), torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    score(qwen2.model, qwen2.tokenizer, qwen2.texts[:2])
    after = traces(qwen2.model), torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    assert after == before
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_dropout_does_not_blur_a_score_of_a_model_in_training(qwen2: Case) -> None:
    expected = score(qwen2.model.eval(), qwen2.tokenizer, qwen2.texts[:2])
    for layer in qwen2.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert by_module(score(qwen2.model.train(), qwen2.tokenizer, qwen2.texts[:2])) == by_module(expected)


@pytest.mark.parametrize("place", ["forward", "register_forward_hook"])
def test_hooks_and_training_flags_are_restored_when_the_pass_fails(
    qwen2: Case, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Half-way through the forward, and half-way through attaching."""
    _half_in_training(qwen2.model)
    before = traces(qwen2.model)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(qwen2.model.model.layers[1].mlp.up_proj, place, fail)
    with pytest.raises(KeyboardInterrupt):
        score(qwen2.model, qwen2.tokenizer, qwen2.texts[:2])
    assert traces(qwen2.model) == before
    assert torch.is_grad_enabled()


# Modules that have no score


def test_a_module_that_never_runs_is_skipped_and_not_zero() -> None:
    toy = Toy(W, Z)
    toy.unused = nn.Linear(8, 8)
    scores = score_toy(toy)
    assert [module.name for module in scores.modules] == ["linear"]
    assert ("unused", "it is not called with tokens, though its weight may be used") in [
        (skipped.name, skipped.reason) for skipped in scores.skipped
    ]


@pytest.mark.parametrize(
    ("value", "reason"), [(torch.nan, "its input or output is not finite"), (0.0, "its weight is zero")]
)
def test_a_module_with_a_broken_weight_is_named_and_left_out_of_its_type(
    qwen2: Case, value: float, reason: str
) -> None:
    """The last layer's down_proj, so that no other module sees what comes out of it."""
    name = "model.layers.2.mlp.down_proj"
    expected = by_module(score(qwen2.model, qwen2.tokenizer, qwen2.texts))
    qwen2.model.get_submodule(name).weight.data[:] = value
    scores = score(qwen2.model, qwen2.tokenizer, qwen2.texts)
    assert f"{name} is left out: {reason}" in scores.warnings
    assert (name, reason) in [(skipped.name, skipped.reason) for skipped in scores.skipped]
    assert by_module(scores) == {module: value for module, value in expected.items() if module != name}
    (down,) = [kind for kind in scores.types if kind.type == "down_proj"]
    assert down.modules == 2
    assert down.nfn == pytest.approx(np.mean([expected[f"model.layers.{layer}.mlp.down_proj"][0] for layer in (0, 1)]))


def test_one_token_that_is_not_finite_excludes_the_module() -> None:
    z = Z.clone()
    z[1, 1] = torch.inf
    with pytest.raises(PlopError, match="no module has a score: linear: its input or output is not finite"):
        score_toy(Toy(W, z))


def test_a_zero_input_has_no_direction_and_is_not_counted() -> None:
    z = Z.clone()
    z[1] = 0
    (module,) = score_toy(Toy(torch.eye(8), z, bias=torch.ones(8))).modules
    assert (module.nfn, module.tokens) == (pytest.approx(1, abs=1e-6), 6)


# Texts and settings


def test_texts_that_are_cut_are_said_and_scored_on_what_is_left(qwen2: Case) -> None:
    texts = ["x" * 20, "y" * 21, "z" * 40]
    scores = score(qwen2.model, qwen2.tokenizer, texts, max_length=20)
    assert scores.warnings == ("2 of 3 texts were cut at 20 tokens (--max-length)",)
    assert scores.tokens == 60
    assert by_module(scores) == by_module(score(qwen2.model, qwen2.tokenizer, [text[:20] for text in texts]))


def test_an_empty_text_is_a_sample_without_tokens(qwen2: Case) -> None:
    scores = score(qwen2.model, qwen2.tokenizer, ["", *qwen2.texts[:2]])
    assert scores.matrix.counts[0].tolist() == [0] * len(scores.modules)
    assert by_module(scores) == by_module(score(qwen2.model, qwen2.tokenizer, qwen2.texts[:2]))


def test_a_conversation_goes_through_the_chat_template_which_writes_the_special_tokens(qwen2: Case) -> None:
    qwen2.tokenizer.chat_template = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
    expected = by_module(score(qwen2.model, qwen2.tokenizer, ["<user>Why?"]))
    assert by_module(score(qwen2.model, qwen2.tokenizer, ["Why?"], chat=True)) == expected
    assert by_module(score(qwen2.model, qwen2.tokenizer, [[{"role": "user", "content": "Why?"}]])) == expected


def test_progress_counts_real_tokens_to_their_total(qwen2: Case) -> None:
    seen: list[tuple[int, int]] = []
    texts = ["x" * 20, "y" * 30, "z" * 40]
    score(qwen2.model, qwen2.tokenizer, texts, batch_tokens=64, progress=lambda *step: seen.append(step))
    assert seen == [(50, 90), (90, 90)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: score(c.model, c.tokenizer, []), "no text holds a token"),
        (lambda c: score(c.model, c.tokenizer, ["", ""]), "no text holds a token"),
        (lambda c: score(c.model, c.tokenizer, ["x"], max_length=0), "max_length is 0; give at least 1"),
        (lambda c: score(c.model, c.tokenizer, ["x"], max_length=257), "256 positions; give --max-length 256 or less"),
        (lambda c: score(c.model, c.tokenizer, ["x"], chat=True), "the tokenizer has no chat template"),
        (lambda c: score(nn.Embedding(257, 8), c.tokenizer, ["x"]), "Embedding has no linear module to score"),
    ],
)
def test_what_cannot_be_scored_is_an_error_with_a_remedy(
    qwen2: Case, call: Callable[[Case], None], message: str
) -> None:
    with pytest.raises(PlopError, match=message):
        call(qwen2)


# What comes out


def test_to_dict_has_the_json_form_that_every_command_shares(qwen2: Case) -> None:
    found = json.loads(json.dumps(score(qwen2.model, qwen2.tokenizer, qwen2.texts).to_dict(), allow_nan=False))
    shape = {key: set(found[key]) for key in ("model", "task")}
    assert shape["model"] >= {"id", "revision", "architecture", "dtype"}
    assert shape["task"] >= {"id", "revision", "samples", "tokens"}
    assert found.keys() >= {"run_id", "cached", "settings", "created_at", "plop_version", "types", "modules", "skipped"}
    kind, module, skipped = found["types"][0], found["modules"][0], found["skipped"][0]
    assert kind.keys() >= {"type", "modules", "nfn", "nfn_squared", "stderr", "recommended", "confidence"}
    assert module.keys() >= {"name", "type", "layer", "in_features", "out_features", "nfn", "nfn_squared", "stderr"}
    assert skipped.keys() == {"name", "reason"}
    assert found["cached"] is False
    assert found["created_at"].endswith("Z")
    assert found["model"]["architecture"] == "Qwen2ForCausalLM"
    assert (found["task"]["samples"], found["task"]["tokens"]) == (16, sum(len(text.encode()) for text in qwen2.texts))
    assert [kind["nfn"] for kind in found["types"]] == sorted(kind["nfn"] for kind in found["types"])


def test_what_one_sample_cannot_tell_is_null_in_json(qwen2: Case) -> None:
    found = json.loads(json.dumps(score(qwen2.model, qwen2.tokenizer, ["x"]).to_dict(), allow_nan=False))
    assert {kind["stderr"] for kind in found["types"]} == {kind["confidence"] for kind in found["types"]} == {None}


def test_types_and_recommendation_are_those_of_the_modules(qwen2: Case) -> None:
    scores = score(qwen2.model, qwen2.tokenizer, qwen2.texts)
    for kind in scores.types:
        values = [module.nfn for module in scores.modules if module.type == kind.type]
        assert (kind.modules, kind.nfn) == (3, pytest.approx(np.mean(values)))
    assert scores.recommended == [kind.type for kind in sorted(scores.types, key=lambda kind: kind.nfn)[:3]]
