"""Fair, repeatable, and without a trace: races of small models with real adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import architectures
from fingerprint import no_trace
from plop_cli import Placement, PlopError, race, recommend
from plop_cli.opinions.methods import METHODS
from plop_cli.racing import losses, training
from plop_cli.racing.contestants import contestants, needs_scores
from plop_cli.racing.examples import draw
from plop_cli.racing.identity import Setting, adapters_of
from plop_cli.racing.sources import shaped
from plop_cli.racing.training import Trainer
from plop_cli.racing.verdicts import finals, stand, winner
from plop_cli.racing.watch import Watch
from plop_registry import ModuleValue, Opinion, Registry
from races import same, sums
from small_models import bert, byte_tokenizer, gpt2, qwen2

pytestmark = pytest.mark.usefixtures("one_thread")
SETTING = Setting(steps=4, batch=4)
SHORT: dict[str, Any] = {"setting": SETTING, "rates": "2e-3,4e-3", "seeds": 2}
TOKENIZER = byte_tokenizer(eos_token="<pad>")


def small(dtype: torch.dtype = torch.float32) -> Any:
    return qwen2(hidden_size=16, intermediate_size=32).to(dtype)


def placed(model: Any, *names: str) -> dict[str, Placement]:
    every = {
        "MLP": ["gate_proj", "up_proj", "down_proj"],
        "Attn": ["q_proj", "k_proj", "v_proj"],
        "all": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }
    return {name: recommend(targets=every[name], model=model, rank=2) for name in names}


class Told(Watch):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.laps: list[tuple[str, float, int, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self, entry: Any, lap: Any) -> None:
        self.laps.append((entry.name, lap.rate, lap.seed, lap.steps))


def test_the_order_of_contestants_changes_no_loss() -> None:
    model = small()
    placements = placed(model, "MLP", "Attn", "all")
    one = race(model, TOKENIZER, sums(40), placements, **SHORT)
    other = race(model, TOKENIZER, sums(40), dict(reversed(placements.items())), **SHORT)
    assert {lap.key: lap.sha256() for lap in one.laps} == {lap.key: lap.sha256() for lap in other.laps}


def test_the_same_seed_gives_the_same_bits_whatever_random_numbers_were_drawn_before() -> None:
    model = small()
    one = race(model, TOKENIZER, sums(40), placed(model, "MLP", "Attn"), **SHORT)
    torch.rand(7)
    other = race(small(), TOKENIZER, sums(40), placed(model, "MLP", "Attn"), **SHORT)
    assert same(one, other)
    seeds = finals(one, one.entries[0])
    assert not np.array_equal(seeds[0].test, seeds[1].test)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(small, "q_proj"), (lambda: small(torch.bfloat16), "q_proj"), (gpt2, "c_fc")],
    ids=["float32", "bfloat16", "dropout"],
)
def test_the_model_is_afterwards_what_it_was_bit_for_bit(make: Callable[[], Any], kind: str) -> None:
    model = make()
    model.train()
    next(model.parameters()).requires_grad_(False)
    placement = recommend(targets=[kind], model=model, rank=2)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    wants = [weight.requires_grad for weight in model.parameters()]
    attributes = set(vars(model))
    with no_trace():
        race(model, TOKENIZER, sums(40), {"one": placement}, **(SHORT | {"seeds": 1}))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert list(model.state_dict()) == list(before)
    assert [weight.requires_grad for weight in model.parameters()] == wants
    assert all(weight.grad is None for weight in model.parameters())
    assert all(module.training for module in model.modules())
    assert set(vars(model)) == attributes


def test_a_contestant_listed_twice_ties_exactly() -> None:
    model = small()
    mlp = placed(model, "MLP")["MLP"]
    found = race(model, TOKENIZER, sums(40), {"PLoP": mlp, "twin": mlp, **placed(model, "Attn")}, **SHORT)
    twin = next(each for each in stand(found) if each.entry.name == "twin")
    assert twin.behind is not None
    assert (twin.behind.mean, twin.behind.half, twin.verdict) == (0.0, 0.0, "the same")
    trainer = Trainer(model, draw(TOKENIZER, shaped(sums(40), "sums")), SETTING)
    laps = [trainer.lap(mlp, rate=1e-3, seed=0) for _ in range(2)]
    assert laps[0].sha256() == laps[1].sha256()


def test_a_lap_is_what_a_bare_loop_of_peft_and_torch_gives() -> None:
    """The loss on the answer's tokens, AdamW, warmup and cosine: written down again, without plop's trainer."""
    from peft import LoraConfig, get_peft_model

    model = small()
    placement = placed(model, "MLP")["MLP"]
    data = draw(TOKENIZER, shaped(sums(40), "sums"))
    lap = Trainer(model, data, replace(SETTING, steps=6)).lap(placement, rate=5e-3, seed=3, steps=6)
    torch.manual_seed(3)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["gate_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")
    bare = get_peft_model(small(), config)
    optimizer = torch.optim.AdamW([weight for weight in bare.parameters() if weight.requires_grad], lr=5e-3)
    found = []
    for step, batch in enumerate(training.batches(data.train, 4, 6, 3)):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 + np.cos(np.pi * step / 6)) / 2
        total, tokens = torch.zeros(()), 0
        for example in batch:
            ids = torch.tensor([example.ids])
            labels = torch.where(torch.tensor([example.counts]), ids, -100)
            total = total + bare(input_ids=ids, labels=labels).loss * example.losses
            tokens += example.losses
        (total / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append((total / tokens).item())
    np.testing.assert_allclose(lap.train, found, rtol=1e-4)


def test_a_race_goes_on_where_it_stopped_and_a_seed_more_is_only_that_seed(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    class Stops(Told):
        def finish(self, entry: Any, lap: Any) -> None:
            super().finish(entry, lap)
            if len(self.laps) == 3:
                raise Enough

    model = small()
    placements = placed(model, "MLP", "Attn")
    whole = race(model, TOKENIZER, sums(40), placements, **SHORT)
    stopped, resumed, more = Stops(), Told(), Told()
    with Registry(tmp_path / "registry.db") as registry:
        with pytest.raises(Enough):
            race(model, TOKENIZER, sums(40), placements, registry=registry, watch=stopped, **SHORT)
        again = race(model, TOKENIZER, sums(40), placements, registry=registry, watch=resumed, **SHORT)
        assert same(again, whole)
        assert same(registry.races.get(whole.id), whole)
        assert len(stopped.laps) + len(resumed.laps) == len(whole.laps)
        race(model, TOKENIZER, sums(40), placements, registry=registry, watch=more, **(SHORT | {"seeds": 3}))
        assert [(name, seed) for name, _, seed, _ in more.laps] == [("MLP", 2), ("Attn", 2)]


def test_minutes_end_a_race_and_what_is_finished_counts(tmp_path: Path) -> None:
    model, told = small(), Told()
    found = race(model, TOKENIZER, sums(40), placed(model, "MLP", "Attn"), minutes=1e-6, watch=told, **SHORT)
    assert found.laps == ()
    assert winner(found) is None
    assert told.notes == ["the minutes are spent; run this again to go on where it stopped"]


def test_who_is_clearly_behind_drops_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are told to be worse by far for one of two, and a third seed is not run for it."""
    measured = training.measure

    def worse(model: Any, examples: Any) -> list[float]:
        behind = any("q_proj" in name and "lora" in name for name, _ in model.named_modules())
        return [loss + (0.5 + index / 1000 if behind else 0) for index, loss in enumerate(measured(model, examples))]

    monkeypatch.setattr(training, "measure", worse)
    model, told = small(), Told()
    placements = placed(model, "MLP", "Attn")
    race(model, TOKENIZER, sums(300), placements, watch=told, **(SHORT | {"seeds": 4, "rates": "2e-3"}))
    assert [seed for name, _, seed, _ in told.laps if name == "Attn"] == [0, 1]


def test_losses_that_are_no_numbers_mark_the_lap_and_lower_rates_are_tried() -> None:
    model, told = small(), Told()
    placements = placed(model, "MLP", "Attn")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("inf"))
    found = race(model, TOKENIZER, sums(40), placements, watch=told, **SHORT)
    assert all(lap.diverged for lap in found.laps)
    assert winner(found) is None
    assert set(told.notes) == {
        f"{name} diverged at every learning rate, and races no further" for name in ("MLP", "Attn")
    }
    assert min(lap.rate for lap in found.laps) < 1e-3


@pytest.mark.parametrize("fits", [3, 2, 1, 0])
def test_out_of_memory_halves_the_batch_and_gives_the_same_losses(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `fits` examples fit: 3 makes of 4 two at a time. 0 takes checkpointing, and is refused where that fails."""
    model, told = small(), Told()
    placement = placed(model, "MLP")["MLP"]
    data = draw(TOKENIZER, shaped(sums(40), "sums"))
    free = Trainer(model, data, SETTING).lap(placement, rate=1e-3, seed=0)
    forward = losses.token_losses

    def scarce(model: Any, batch: Any) -> Any:
        if len(batch) > fits and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, batch)

    monkeypatch.setattr(losses, "token_losses", scarce)
    trainer = Trainer(model, data, SETTING, note=told.note)
    if not fits:
        with pytest.raises(PlopError, match="one example at a time does not fit into memory"):
            trainer.lap(placement, rate=1e-3, seed=0)
        assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        return
    lap = trainer.lap(placement, rate=1e-3, seed=0)
    np.testing.assert_allclose(lap.train, free.train, rtol=1e-4)
    assert told.notes[-1] == (
        f"out of memory: batches go through the model by {min(fits, 2)} examples, gradients are added up"
    )
    assert len(told.notes) == {3: 1, 2: 1, 1: 2}[fits]


def test_a_model_that_cannot_leave_logits_out_gives_the_same_losses() -> None:
    """Losses and gradients are those of all logits, whether the model is asked for the answers' alone or cannot be."""

    def run(wrap: bool) -> tuple[list[int], list[torch.Tensor], list[Any]]:
        model = small()
        asked: list[int] = []
        forward = model.forward

        def whole(input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
            return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

        if wrap:
            model.forward = whole
        model.register_forward_hook(lambda module, given, out: asked.append(out.logits.shape[1]))
        batch = draw(TOKENIZER, shaped(sums(40), "sums")).train[:4]
        found = losses.token_losses(model, batch)
        torch.cat(found).sum().backward()
        return asked, [loss.detach() for loss in found], [weight.grad for weight in model.parameters()]

    (few, cut, gradients), (all_of_them, whole, others) = run(wrap=False), run(wrap=True)
    assert few < all_of_them
    for ours, theirs in zip([*cut, *gradients], [*whole, *others], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_names_become_placements_of_one_size(tmp_path: Path) -> None:
    from plop_cli.network.anatomy import anatomy

    body = anatomy(qwen2())
    (tmp_path / "adapter_config.json").write_text('{"target_modules": ["o_proj", "down_proj"], "r": 64}')

    def stored(reference: str) -> Any:
        raise AssertionError(reference)

    names = ["mlp", "attn", "all", "q_proj+v_proj", str(tmp_path)]
    found = contestants(names, body, None, stored, stored, budget=200_000)
    sizes = [placement.trainable_parameters for placement in found.values()]
    assert max(sizes) <= 200_000
    assert max(sizes) <= 1.02 * min(sizes)
    assert list(found) == ["MLP", "Attn", "all-linear", "q_proj+v_proj", tmp_path.name]
    assert {module.type for module in found[tmp_path.name].modules} == {"o_proj", "down_proj"}
    twice = contestants(["mlp", "mlp"], body, None, stored, stored, rank=4)
    assert list(twice) == ["MLP", "MLP (2)"]
    assert adapters_of(twice["MLP"]) == adapters_of(twice["MLP (2)"])


def test_other_methods_race_by_the_types_that_they_choose() -> None:
    from plop_cli.network.anatomy import anatomy

    body, types = anatomy(qwen2()), ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")

    def opinion(method: str) -> Opinion:
        layers = [ModuleValue("layers.0", "", 1)]
        values = [ModuleValue(f"layers.0.{name}", name, value) for value, name in enumerate(types, 1)]
        return METHODS[method].opinion(layers if method == "influence" else values, seconds=0)

    found = contestants(["kappa", "snr", "v_proj+o_proj"], body, None, pytest.fail, opinion, budget=100_000)
    assert list(found) == ["condition number κ", "Spectrum's SNR", "v_proj+o_proj"]
    chosen = [{module.type for module in placement.modules} for placement in found.values()]
    assert chosen == [{*types[:3]}, {*types[-3:]}, {"v_proj", "o_proj"}]
    sizes = [placement.trainable_parameters for placement in found.values()]
    assert max(sizes) <= min(100_000, 1.02 * min(sizes))
    with pytest.raises(PlopError, match=r"block influence chooses no types here \(it tells layers apart, not types\)"):
        contestants(["mlp", "influence"], body, None, pytest.fail, opinion, rank=4)


def test_other_methods_choose_among_what_texts_run_through_and_as_many_as_plop() -> None:
    """Mamba takes the weight of dt_proj and never calls it, and PEFT refuses out_proj."""
    from plop_cli import score
    from plop_cli.network.anatomy import anatomy
    from plop_cli.opinions.weights import of_weights

    model = architectures.build("Mamba")
    opinions = of_weights(model)
    scores = score(model, byte_tokenizer(), [f"{number} and so on" for number in range(8)])
    found = contestants(["plop", "kappa", "hill"], anatomy(model), scores, pytest.fail, opinions.__getitem__, rank=4)
    chosen = [{module.type for module in placement.modules} for placement in found.values()]
    assert not set().union(*chosen) & {"dt_proj", "out_proj"}
    assert len(set(map(len, chosen))) == 1
    assert needs_scores(["mlp", "kappa"], None)
    assert not needs_scores(["mlp", "attn"], "mlp:8")


def test_those_that_come_to_the_same_adapters_run_the_same_laps_and_that_is_said() -> None:
    model, told = small(), Told()
    types = {"a": "q_proj", "b": "q_proj", "c": "o_proj"}
    placements = {name: recommend(targets=[kind], model=model, rank=2) for name, kind in types.items()}
    brief = Setting(steps=1, batch=4)
    found = race(model, TOKENIZER, sums(60), placements, setting=brief, rates="1e-3", seeds=1, watch=told)
    assert "a and b put the same adapters into the same places, and run the same laps" in told.notes
    assert len(found.laps) == 2


@pytest.mark.parametrize(
    ("name", "types"), [("BERT", ("query", "key")), ("T5", ("EncDecAttention.q", "EncDecAttention.k"))]
)
def test_what_does_not_predict_the_next_token_is_refused(name: str, types: tuple[str, str]) -> None:
    model = bert() if name == "BERT" else architectures.build(name)
    placements = {kind: recommend(targets=[kind], model=model, rank=1) for kind in types}
    with pytest.raises(PlopError, match="is no causal language model; a race trains to predict the next token"):
        race(model, TOKENIZER, sums(60), placements, **SHORT)


def test_tokens_that_the_model_does_not_know_are_refused() -> None:
    model = small()
    model.resize_token_embeddings(90)
    placements = {kind: recommend(targets=[kind], model=model, rank=1) for kind in ("q_proj", "k_proj")}
    with pytest.raises(PlopError, match=r"the tokenizer gives token \d+, and the model's embedding has 90"):
        race(model, TOKENIZER, sums(60), placements, **SHORT)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"target_modules": ["q_proj"], "exclude_modules": ["0.self_attn.q_proj"]}, "has exclude_modules"),
        ({"target_modules": ["q_proj"], "peft_type": "IA3"}, "is of IA3"),
        ({"target_modules": ["q_proj"], "bias": "all"}, "with bias all"),
        ({"target_modules": "(("}, "no regular expression"),
        ({"target_modules": 5}, "no target_modules that are names"),
        ({"target_modules": None}, "no target_modules that are names"),
    ],
)
def test_a_config_that_a_race_cannot_do_is_refused(config: dict[str, Any], said: str, tmp_path: Path) -> None:
    from plop_cli.network.anatomy import anatomy

    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(PlopError, match=said):
        contestants(["mlp", str(tmp_path)], anatomy(qwen2()), None, pytest.fail, pytest.fail, rank=4)


def test_a_rank_that_a_module_cannot_use_is_said() -> None:
    model, told = small(), Told()
    wide = {kind: recommend(targets=[kind], model=model, rank=17) for kind in ("q_proj", "o_proj")}
    race(model, TOKENIZER, sums(60), wide, setting=Setting(steps=1, batch=4), rates="1e-3", seeds=1, watch=told)
    assert "q_proj: rank 17 is more than modules with a side of 16 can use" in told.notes
