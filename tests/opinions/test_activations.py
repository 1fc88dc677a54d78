"""EVA and block influence out of the pass of NFN: against PEFT's own, brute force, and what models may do to them."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import architectures
from plop_cli import score
from plop_cli.cli.app import app
from plop_cli.network.modules import linear_modules
from plop_cli.opinions.activations import EVERY, RANK, Watcher
from plop_cli.opinions.ordering import ordering
from plop_cli.opinions.sketch import WIDTH, Sketch, explained
from plop_cli.processes import ALONE, Group
from plop_cli.scoring.batches import batches
from plop_cli.scoring.tokens import tokenize
from plop_registry import Opinion, Registry
from real_model import sample_texts, smollm2
from small_models import Toy, byte_tokenizer, gaussian, gpt2, numbers, qwen2

TEXTS = [f"{number} and " * (3 + number % 7) + "so on" for number in range(24)]


def asked(model: nn.Module, tokenizer: Any = None, texts: Any = TEXTS, **options: Any) -> dict[str, Opinion]:
    scores = score(model, tokenizer or byte_tokenizer(), texts, opinions=True, **options)
    return {opinion.method: opinion for opinion in scores.opinions}


def values(opinion: Opinion) -> dict[str, float]:
    return {each.name: each.value for each in opinion.values}


def inputs_of(model: nn.Module, texts: list[str], tokenizer: Any = None, layers: str = "*") -> dict[str, Tensor]:
    """What comes into each module, text by text: every fourth token as `Watcher` counts them."""
    seen = defaultdict[str, list[Tensor]](list)
    modules = [module for module in linear_modules(model)[0] if fnmatch(str(module.layer), layers)]
    hooks = [m.module.register_forward_hook(lambda _, args, __, n=m.name: seen[n].append(args[0][0])) for m in modules]
    with torch.no_grad():
        for ids in tokenize(tokenizer or byte_tokenizer(), texts, max_length=256, chat=False).ids:
            model.base_model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return {
        name: torch.cat([z[(torch.arange(len(z)) + row) % EVERY == 0] for row, z in enumerate(each)]).double()
        for name, each in seen.items()
    }


def share(z: Tensor) -> float:
    z = z - z.mean(dim=0)
    variances = np.linalg.eigvalsh((z @ z.mT if len(z) < z.shape[1] else z.mT @ z).numpy())[::-1]
    return float(variances[:RANK].sum() / variances.sum())


@pytest.mark.parametrize("batch_tokens", [64, 512])
def test_of_few_features_the_variance_is_exact_however_texts_are_batched(batch_tokens: int) -> None:
    model = qwen2(hidden_size=32, intermediate_size=WIDTH)
    found = values(asked(model, batch_tokens=batch_tokens)["eva"])
    expected = {name: share(z) for name, z in inputs_of(model, TEXTS).items()}
    assert found == {name: pytest.approx(each, rel=1e-3) for name, each in expected.items()}


def test_influence_is_that_of_texts_alone_however_they_are_batched() -> None:
    model, sums = qwen2(), defaultdict[str, list[float]](list)
    hooks = [
        model.get_submodule(f"model.layers.{layer}").register_forward_hook(
            lambda _, args, kwargs, y, name=f"model.layers.{layer}": sums[name].extend(
                (1 - torch.cosine_similarity((args[0] if args else kwargs["hidden_states"])[0], y[0], dim=-1)).tolist()
            ),
            with_kwargs=True,
        )
        for layer in range(3)
    ]
    with torch.no_grad():
        for ids in tokenize(byte_tokenizer(), TEXTS, max_length=256, chat=False).ids:
            model.base_model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    for batch_tokens in (64, 512):
        found = values(asked(model, batch_tokens=batch_tokens)["influence"])
        assert found == {name: pytest.approx(fmean(each), rel=1e-4) for name, each in sums.items()}


def test_eva_of_real_weights_is_that_of_all_inputs_but_for_a_little_and_whatever_the_batches() -> None:
    model, tokenizer = smollm2()
    texts = sample_texts("math", 64)
    found = values(asked(model, tokenizer, texts)["eva"])
    exact = {name: share(z) for name, z in inputs_of(model, texts, tokenizer, layers="[36]").items()}
    assert len(exact) == 14
    for name, expected in exact.items():
        assert 0.94 * expected < found[name] < 1.001 * expected, name
    small = values(asked(model, tokenizer, texts, batch_tokens=128)["eva"])
    assert small == {name: pytest.approx(value, rel=1e-3) for name, value in found.items()}


def test_eva_is_what_pefts_own_hook_finds_on_real_weights_and_texts() -> None:
    """PEFT's sketch keeps twice as many directions as are asked for and sees every token; it is the finer one."""
    from peft.tuners.lora.eva import SVDHook

    model, tokenizer = smollm2()
    texts = sample_texts("math", 48)
    found = values(asked(model, tokenizer, texts, max_length=128)["eva"])
    names = [name for name in found if name.split(".")[2] in ("2", "15", "27")]
    theirs = {name: SVDHook(n_components=2 * RANK, sim_thresh=0.99, name=name) for name in names}
    hooks = [model.get_submodule(name).register_forward_hook(hook) for name, hook in theirs.items()]
    with torch.no_grad():
        for batch in batches(tokenize(tokenizer, texts, max_length=128, chat=False).ids, batch_tokens=512):
            for hook in theirs.values():
                hook._prepare_layer_inputs_fn = lambda layer_input, *_, at=batch.mask: layer_input[0][at]
            model.base_model(input_ids=batch.input_ids, attention_mask=batch.mask.long(), use_cache=False)
    for hook in hooks:
        hook.remove()
    of_types: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, hook in theirs.items():
        peft = float(hook.svd.explained_variance_ratio_[:RANK].sum())
        assert found[name] == pytest.approx(peft, rel=0.08), name
        of_types[name.rpartition(".")[2]].append((found[name], peft))
    for kind, pairs in of_types.items():
        ours, peft = map(fmean, zip(*pairs, strict=True))
        assert ours == pytest.approx(peft, rel=0.03), kind


def test_a_sketch_of_many_features_is_near_the_truth_and_processes_add_up() -> None:
    z = gaussian(4000, 300, seed=1) * torch.arange(1, 301).pow(-0.7) @ gaussian(300, 300, seed=2) + 5
    exact = share(z.double())
    parts = [z[:500], z[500:4000]]
    states = []
    for part in parts:
        sketch = Sketch.of(300)
        for some in part.split(100):
            sketch = sketch.after(some)
        states.append(sketch.state())
    whole = Sketch.of(300)
    for some in z.split(100):
        whole = whole.after(some)
    assert explained([whole.state()], RANK) == pytest.approx(exact, rel=0.02)
    assert explained(states, RANK) == pytest.approx(exact, rel=0.02)
    idle = Sketch.of(300).state()
    assert explained([*states, idle], RANK) == pytest.approx(explained(states, RANK))


@pytest.mark.parametrize("features", [64, 576])
@pytest.mark.parametrize("mean", [0.0, 3.0])
@pytest.mark.parametrize("number", [3, 20, 40])
def test_inputs_unlike_the_first_ones_are_explained_too(number: int, mean: float, features: int) -> None:
    """Of few directions, of which the first batch has a third: padding-like rows of N in DNA, a file's head."""
    rows = gaussian(number, features, seed=number) + mean * gaussian(1, features, seed=1)
    at = torch.Generator().manual_seed(number)
    likely = 1 / torch.arange(1, number + 1).square()
    batches_of_rows = [torch.multinomial(likely[: max(1, number // 3)], 100, replacement=True, generator=at)]
    batches_of_rows += [torch.multinomial(likely, 128, replacement=True, generator=at) for _ in range(9)]
    sketch = Sketch.of(features)
    for drawn in batches_of_rows:
        sketch = sketch.after(rows[drawn])
    exact = share(rows[torch.cat(batches_of_rows)].double())
    assert explained([sketch.state()], RANK) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_inputs_whose_squares_float32_does_not_hold_say_nothing(size: float) -> None:
    z = gaussian(200, 40, seed=3)
    assert explained([Sketch.of(40).after(z).state()], RANK) == pytest.approx(share(z.double()), rel=1e-3)
    assert math.isnan(explained([Sketch.of(40).after(size * z).state()], RANK))


def test_rounding_is_no_variance() -> None:
    """A model that is given one token, again and again, has one hidden state at each place, but for the last digits."""
    assert not asked(qwen2(), texts=["aaaa" * length for length in range(8, 24)])["eva"].values


def test_a_block_that_does_nothing_has_no_influence() -> None:
    class Through(nn.Module):
        def forward(self, hidden_states: Tensor, **options: Any) -> Tensor:
            return hidden_states.clone()

    model = qwen2()
    block = model.model.layers[1]
    block.forward = Through().forward
    assert values(asked(model)["influence"])["model.layers.1"] == pytest.approx(0, abs=1e-7)
    assert min(values(asked(model)["influence"]).values()) >= 0


def test_scores_are_the_same_with_opinions_and_modules_given_one_tensor_share_a_sketch() -> None:
    model = qwen2()
    plain, more = (score(model, byte_tokenizer(), TEXTS, opinions=which) for which in (False, True))
    assert plain.modules == more.modules
    assert (plain.opinions, [opinion.method for opinion in more.opinions]) == ((), ["eva", "influence"])
    found = values(more.opinions[0])
    assert found["model.layers.1.self_attn.q_proj"] == found["model.layers.1.self_attn.v_proj"]
    assert found["model.layers.1.self_attn.q_proj"] != found["model.layers.1.self_attn.o_proj"]
    modules, _ = linear_modules(model)
    watcher = Watcher(model, modules)
    with torch.no_grad(), watcher.watching(), watcher.batch(torch.arange(2), torch.ones(2, 40, dtype=torch.bool)):
        model(torch.randint(0, 200, (2, 40)))
    assert len(watcher._inputs._sketches) == 3 * 4


def test_a_forward_that_fails_leaves_nothing_behind() -> None:
    model = qwen2()
    watcher = Watcher(model, linear_modules(model)[0])
    ids, mask = torch.randint(0, 200, (2, 40)), torch.ones(2, 40, dtype=torch.bool)

    def run(*, fail: bool = False) -> None:
        with watcher.batch(torch.arange(2), mask):
            model(ids)
            if fail:
                raise torch.OutOfMemoryError

    with torch.no_grad(), watcher.watching():
        run()
        first = [opinion.values for opinion in watcher.opinions()]
        with pytest.raises(torch.OutOfMemoryError):
            run(fail=True)
        assert [opinion.values for opinion in watcher.opinions()] == first


def test_every_process_has_its_say() -> None:
    """Two processes with half of the texts each, in one: what one would have sent is given to the other."""
    model, mask = qwen2(hidden_size=32, intermediate_size=WIDTH), torch.ones(3, 40, dtype=torch.bool)
    batches_of_both = [torch.randint(0, 200, (3, 40), generator=torch.Generator().manual_seed(n)) for n in range(2)]
    modules, _ = linear_modules(model)
    alone, *both = (Watcher(model, modules) for _ in range(3))
    with torch.no_grad():
        for number, ids in enumerate(batches_of_both):
            for watcher in (alone, both[number]):
                with watcher.watching(), watcher.batch(torch.arange(3), mask):
                    model(ids)
    said = [list[Any]() for _ in both]

    class Pair(Group):
        def gather(self, value: Any) -> list[Any]:
            said[self.rank].append(value)
            other = said[1 - self.rank]
            return [value, other[len(said[self.rank]) - 1]] if other else [value]

    both[1].opinions(Pair(rank=1, size=2))
    said[0].clear()
    together = both[0].opinions(Pair(rank=0, size=2))
    for one, two in zip(alone.opinions(ALONE), together, strict=True):
        assert values(two) == {name: pytest.approx(value, rel=1e-3) for name, value in values(one).items()}


def test_padding_is_not_looked_at_and_constant_or_few_inputs_say_nothing() -> None:
    z = torch.cat([gaussian(60, 40, seed=3), torch.ones(1, 40)])
    tokenizer = Toy.tokenizer(61)
    texts = [numbers(range(start, start + length)) for start, length in ((0, 50), (5, 20), (20, 40), (1, 2))]
    model = Toy(gaussian(8, 40, seed=4), z)
    (value,) = asked(model, tokenizer, texts)["eva"].values
    assert 0.5 < value.value < 1, "padding comes in as NaN"
    for text, why in ((numbers([60] * 200), "all the same"), (numbers(range(20)), "too few")):
        (left_out,) = asked(model, tokenizer, [text] * 2)["eva"].left_out
        assert (left_out.name, why in left_out.reason) == ("linear", True)


def test_layers_that_cannot_be_told_are_left_out_and_said() -> None:
    model = Toy(gaussian(8, 40, seed=4), gaussian(60, 40, seed=3))
    opinion = asked(model, Toy.tokenizer(60), [numbers(range(50))] * 3)["influence"]
    assert opinion.values == ()
    assert [str(each) for each in opinion.left_out] == ["the model: no layer of it can be told from the others"]
    assert ordering(opinion).types == ()


def test_a_block_that_gives_no_hidden_states_back_is_left_out() -> None:
    model = qwen2()

    class Odd(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, hidden_states: Tensor, **options: Any) -> Tensor:
            return hidden_states.add_(self.block(hidden_states.clone(), **options) - hidden_states)

    model.model.layers[1] = Odd(model.model.layers[1])
    opinion = asked(model)["influence"]
    assert [each.name for each in opinion.values] == ["model.layers.0", "model.layers.2"]
    assert [str(each) for each in opinion.left_out] == [
        "model.layers.1: it changes the hidden states that it is given in place"
    ]


def test_what_is_not_finite_is_left_out_and_one_module_makes_a_type() -> None:
    model = qwen2()
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight[0, 0] = math.nan
    found = asked(model)
    assert "model.layers.2" in {each.name for each in found["influence"].left_out}
    left_out = {each.name: each.reason for each in found["eva"].left_out}
    assert set(left_out) == {f"model.layers.2.mlp.{name}_proj" for name in ("gate", "up", "down")}
    assert {"its inputs are too few, all the same, not finite, or too large or small to be squared"} == set(
        left_out.values()
    )
    kinds = {each.type: each.modules for each in ordering(found["eva"]).types}
    assert (kinds["gate_proj"], kinds["q_proj"]) == (2, 3)


def test_as_many_directions_as_inputs_explain_all_and_say_nothing() -> None:
    found = asked(qwen2(hidden_size=16))["eva"]
    assert {each.type for each in found.values} == {"down_proj"}
    assert {each.reason for each in found.left_out} == {"16 directions explain all of its 16 inputs"}


@pytest.mark.parametrize("name", ["Mixtral", "gpt-oss", "DeepSeek-V3", "T5", "BART", "Mamba", "LLaVA"])
def test_every_module_is_said_or_left_out_with_a_reason(name: str) -> None:
    model = architectures.build(name)
    found = asked(model)
    modules, _ = linear_modules(model)
    told = [each.name for each in (*found["eva"].values, *found["eva"].left_out)]
    assert sorted(told) == sorted(module.name for module in modules)
    experts = [module.name for module in modules if module.expert is not None]
    reasons = {each.name: each.reason for each in found["eva"].left_out}
    assert {reasons[each] for each in experts} <= {
        "the inputs of experts that are held in one tensor are not looked at"
    }
    assert found["influence"].values or found["influence"].left_out


def test_conv1d_has_inputs_as_others_have() -> None:
    assert len(asked(gpt2())["eva"].values) == 12


@pytest.fixture
def tiny(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def plop(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def test_they_are_kept_with_the_run_and_a_run_without_them_is_no_answer(tiny: Path, tmp_path: Path) -> None:
    where = ["--registry", tmp_path / "registry.db"]
    command = ["score", tiny, "--task", "sample/math", "-n", "8", "--json", *where]
    bare = json.loads(plop(*command).stdout)
    scored = plop(*command, "--opinions")
    more = json.loads(scored.stdout)
    again = json.loads(plop(*command, "--opinions").stdout)
    assert (more["cached"], again["cached"], again["run_id"]) == (False, True, more["run_id"])
    assert bare["modules"] == more["modules"]
    with Registry(tmp_path / "registry.db") as registry:
        assert set(registry.opinions.of_run(more["run_id"])) == {"eva", "influence"}
        assert registry.opinions.of_run(bare["run_id"]) == {}
    assert plop("score", tiny, "--task", "sample/code", "-n", "8", "--opinions", *where).exit_code == 0
    compared = plop("compare", more["run_id"], "tiny/sample/code", "--signal", "eva", "-f", "json", *where)
    assert compared.exit_code == 0, compared.stderr
    assert json.loads(compared.stdout)["signal"] == "eva"


@pytest.mark.parametrize("form", [(), ("--dtype", "bfloat16")])
def test_the_command_that_shows_them_is_said_and_runs(tiny: Path, tmp_path: Path, form: tuple[str, ...]) -> None:
    result = plop(
        "score", tiny, "--task", "sample/math", "-n", "8", "--opinions", *form, "--registry", tmp_path / "r.db"
    )
    _, command = result.stderr.strip().rsplit(": plop ", 1)
    shown = plop(*shlex.split(command))
    assert shown.exit_code == 0, shown.stderr
    assert "explained variance" in shown.stdout
