"""What is said of the weights of whole models: real ones against the methods' own programs; odd ones, and why not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model
from peft.helpers import KappaTuneSelector
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.integrations.bitnet import AutoBitLinear

from plop_cli import PlopError
from plop_cli.network.modules import linear_modules
from plop_cli.opinions.measures import Matrix, of_spectrum
from plop_cli.opinions.methods import METHODS, OF_WEIGHTS
from plop_cli.opinions.ordering import ordering
from plop_cli.opinions.rules import own_choice
from plop_cli.opinions.weights import of_weights
from plop_registry import ModuleValue, Opinion
from readings import READINGS, reading
from real_model import smollm2
from small_models import gpt2, qwen2


def by_name(opinion: Opinion) -> dict[str, float]:
    return {module.name: module.value for module in opinion.values}


@pytest.fixture(scope="module")
def real() -> tuple[Any, dict[str, Opinion]]:
    """SmolLM2's first two blocks, with the opinions of their 14 matrices."""
    model, _ = smollm2()
    blocks = torch.nn.ModuleList(model.model.layers[:2])
    return blocks, of_weights(blocks)


def test_kappa_of_every_module_is_that_of_peft(real: tuple[Any, dict[str, Opinion]]) -> None:
    model, opinions = real
    selector = KappaTuneSelector(model, max_dim_size_to_analyze=16_384, show_progress=False)
    selector._compute_kappas()
    ours = by_name(opinions["kappa"])
    assert ours.keys() == selector._condition_numbers.keys()
    # PEFT takes the SVD in float32, whose smallest singular values are off by 6e-8 of the largest.
    for name, value in selector._condition_numbers.items():
        assert ours[name] == pytest.approx(value, rel=max(1e-3, 1e-6 * value)), name


@pytest.mark.parametrize("method", READINGS)
def test_a_method_says_of_real_weights_what_its_definition_says(
    method: str, real: tuple[Any, dict[str, Opinion]]
) -> None:
    model, opinions = real
    for name, value in by_name(opinions[method]).items():
        W = model.get_submodule(name).weight.detach().double().numpy()
        assert value == pytest.approx(reading(method, W), rel=1e-3), name


@pytest.mark.slow
def test_kappa_chooses_the_modules_that_peft_chooses() -> None:
    model, _ = smollm2()
    theirs = KappaTuneSelector(model, show_progress=False).get_best_targets(top_p=0.2)
    ours = own_choice(of_weights(model)["kappa"])
    assert ours is not None
    assert set(ours) == set(theirs)


def test_spectrum_takes_the_upper_half_of_the_layers_of_each_type() -> None:
    values = [ModuleValue(f"{layer}.{kind}", kind, layer + 0.5 * (kind == "q")) for layer in range(5) for kind in "qk"]
    assert own_choice(METHODS["snr"].opinion(values, seconds=0)) == ["4.q", "3.q", "4.k", "3.k"]
    assert own_choice(METHODS["kappa"].opinion(values, seconds=0)) == ["0.k", "0.q"]
    assert own_choice(METHODS["alpha"].opinion(values, seconds=0)) is None


def test_conv1d_is_read_the_other_way_round() -> None:
    model = gpt2()
    opinions = of_weights(model)
    for module in linear_modules(model)[0]:
        W = module.module.get_parameter("weight").detach().double().T.numpy()
        assert W.shape == (module.out_features, module.in_features)
        S = np.linalg.svd(W, compute_uv=False)
        for method in ("kappa", "stable-rank", "effective-rank"):
            value = by_name(opinions[method])[module.name]
            assert value == pytest.approx(of_spectrum(method, S, Matrix(*W.shape)), rel=1e-4)


def test_each_expert_of_a_stack_has_its_own_values() -> None:
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
        vocab_size=64,
    )
    model = MixtralForCausalLM(config)
    kappa = by_name(of_weights(model)["kappa"])
    down = model.model.layers[0].mlp.experts.down_proj.detach()
    for expert in range(3):
        (value,) = (v for name, v in kappa.items() if name.endswith(f"experts.down_proj[{expert}]"))
        assert value == pytest.approx(np.linalg.cond(down[expert].double().numpy()), rel=1e-4)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda weight: weight.zero_(), "all of its weights are zero"),
        (lambda weight: weight[3].fill_(float("nan")), "its weight has NaN or infinity"),
        (lambda weight: weight[0, 0].fill_(float("-inf")), "its weight has NaN or infinity"),
    ],
)
def test_a_damaged_matrix_is_left_out_and_said_and_all_others_are_as_before(damage: Any, reason: str) -> None:
    whole, model = of_weights(qwen2()), qwen2()
    with torch.no_grad():
        damage(model.model.layers[1].mlp.up_proj.weight)
    opinions = of_weights(model)
    for method in OF_WEIGHTS:
        said = {skipped.name: skipped.reason for skipped in opinions[method].left_out}
        assert said["model.layers.1.mlp.up_proj"] == reason
        values = by_name(whole[method])
        values.pop("model.layers.1.mlp.up_proj", None)
        assert by_name(opinions[method]) == values


def test_a_type_with_one_module_has_its_value() -> None:
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"only": torch.nn.Linear(40, 30)})
    for method, opinion in of_weights(model).items():
        (value,) = opinion.values
        (kind,) = ordering(opinion).types
        assert (kind.type, kind.modules) == ("only", 1), method
        assert kind.value == pytest.approx(value.value)


def test_a_lack_of_memory_is_no_answer_that_could_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("plop_cli.opinions.weights._matrix", lacks)
    with pytest.raises(torch.OutOfMemoryError):
        of_weights(qwen2())


def test_a_model_without_weights_in_memory_is_refused() -> None:
    with torch.device("meta"):
        model = qwen2()
    with pytest.raises(PlopError, match="not in memory"):
        of_weights(model)


def test_a_model_without_a_linear_module_is_refused() -> None:
    with pytest.raises(PlopError, match="no linear module"):
        of_weights(torch.nn.Sequential(torch.nn.LayerNorm(3)))


def test_offloaded_weights_are_fetched_one_module_at_a_time() -> None:
    model = qwen2()
    whole = {method: by_name(opinion) for method, opinion in of_weights(model).items()}
    cpu_offload(model, execution_device="cpu")
    assert all(p.device.type == "meta" for p in model.model.layers.parameters())
    assert {method: by_name(opinion) for method, opinion in of_weights(model).items()} == whole
    assert all(p.device.type == "meta" for p in model.model.layers.parameters())


def nf4(plain: torch.nn.Linear) -> torch.nn.Module:
    bnb = pytest.importorskip("bitsandbytes")
    packed = bnb.nn.Linear4bit(
        plain.in_features, plain.out_features, bias=True, compute_dtype=torch.float32, quant_type="nf4"
    )
    packed.load_state_dict(plain.state_dict())
    return cast(torch.nn.Module, packed.to("cpu"))


def int8(plain: torch.nn.Linear) -> torch.nn.Module:
    quantization = pytest.importorskip("torchao.quantization")
    model = torch.nn.Sequential(copy.deepcopy(plain))
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model[0]


@pytest.mark.parametrize("quantized", [nf4, int8])
def test_quantized_weights_are_asked_for_their_columns(quantized: Callable[[torch.nn.Linear], torch.nn.Module]) -> None:
    """By unit vectors: what they are to the model, and not how they are packed."""
    torch.manual_seed(0)
    plain = torch.nn.Linear(64, 96, bias=True)
    model = torch.nn.Sequential(quantized(plain))
    with torch.no_grad():
        W = (model(torch.eye(64)) - cast(torch.Tensor, model[0].bias)).T.double().numpy()
    (kappa,) = by_name(of_weights(model)["kappa"]).values()
    assert kappa == pytest.approx(np.linalg.cond(W), rel=1e-3)
    before = np.linalg.cond(plain.weight.detach().double().numpy())
    assert abs(kappa - np.linalg.cond(W)) < abs(kappa - before) / 10


def test_a_layer_that_rounds_its_weights_in_the_forward_is_read_as_what_it_computes() -> None:
    torch.manual_seed(0)
    layer = AutoBitLinear(64, 64, bias=False, online_quant=True)
    with torch.no_grad():
        W = layer(torch.eye(64)).T.double().numpy()
    (value,) = by_name(of_weights(torch.nn.Sequential(layer))["stable-rank"]).values()
    assert value == pytest.approx(reading("stable-rank", W), rel=1e-3)
    assert value != pytest.approx(reading("stable-rank", layer.weight.detach().double().numpy()), rel=0.02)


def test_a_layer_that_is_no_linear_map_has_no_value() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), AutoBitLinear(64, 64, bias=False, use_rms_norm=True))
    for opinion in of_weights(model).values():
        assert [each.name for each in opinion.values] == ["0"]
        assert "it is no linear map" in opinion.left_out[0].reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kept_in", [torch.float32, torch.bfloat16])
def test_what_rounding_makes_of_a_low_rank_is_no_noise(dtype: torch.dtype, kept_in: torch.dtype) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(96, 64), torch.nn.Linear(64, 80))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(64, 8) @ torch.randn(8, 96))
    snr = of_weights(model.to(kept_in).to(dtype))["snr"]
    assert [each.name for each in snr.values] == ["1"]
    assert [str(each) for each in snr.left_out] == ["0: all of its singular values are signal, none is noise"]


def test_weights_whose_squares_float64_does_not_hold_are_left_out_where_these_count() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 40, dtype=torch.float64))
    before = by_name(of_weights(model)["kappa"])
    with torch.no_grad():
        model[0].weight.mul_(1e160)
    opinions = of_weights(model)
    assert by_name(opinions["kappa"]) == {"0": pytest.approx(before["0"], rel=1e-4)}
    assert [each.reason for each in opinions["alpha"].left_out] == [
        "its singular values are too large or too small for float64"
    ]


def test_a_model_with_adapters_is_refused() -> None:
    with pytest.raises(PlopError, match="give the base model, without an adapter"):
        of_weights(get_peft_model(qwen2(), LoraConfig(target_modules=["q_proj"])))


class Dropping(torch.nn.Linear):
    """Drops outputs while it is trained."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(super().forward(input), 0.1, self.training)


def test_a_model_in_training_is_looked_at_as_it_is_after_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(Dropping(40, 40)).train()
    W = model[0].get_parameter("weight").detach().double().numpy()
    before = torch.get_rng_state()
    (value,) = by_name(of_weights(model)["kappa"]).values()
    assert value == pytest.approx(np.linalg.cond(W), rel=1e-4)
    assert model[0].training
    assert torch.equal(torch.get_rng_state(), before)


class Rounding(torch.nn.Linear):
    """Rounds its inputs in fixed steps, as a static quantizer does."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.round(input / 0.25) * 0.25)


def test_a_layer_that_rounds_its_inputs_is_asked_at_a_size_that_inputs_have() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(Rounding(256, 64))
    (value,) = by_name(of_weights(model)["kappa"]).values()
    assert value == pytest.approx(np.linalg.cond(model[0].get_parameter("weight").detach().double().numpy()), rel=1e-3)


def test_a_weight_that_is_made_of_others_is_that_of_the_next_forward() -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.nn.Sequential(torch.nn.utils.weight_norm(torch.nn.Linear(40, 40)))
    with torch.no_grad():
        model[0].get_parameter("weight_g").mul_(torch.linspace(1, 5, 40)[:, None])
        bias = model(torch.zeros(1, 40))
        W = (model(torch.eye(40)) - bias).T.double().numpy()
        model[0].get_parameter("weight_g").div_(torch.linspace(1, 5, 40)[:, None])
        model(torch.zeros(1, 40))
        model[0].get_parameter("weight_g").mul_(torch.linspace(1, 5, 40)[:, None])
    assert by_name(of_weights(model)["kappa"]) == {"0": pytest.approx(np.linalg.cond(W), rel=1e-3)}


@pytest.mark.parametrize("bias", [True, False])
def test_a_parametrized_weight_is_read(bias: bool) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(40, 30, bias=bias)
    expected = by_name(of_weights(torch.nn.Sequential(plain))["kappa"])
    found = of_weights(torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(plain)))["kappa"]
    assert by_name(found) == {"0": pytest.approx(expected["0"], rel=1e-4)}


def test_a_compiled_model_is_the_model_that_was_compiled() -> None:
    model = qwen2()
    plain, compiled = of_weights(model)["kappa"], of_weights(cast(torch.nn.Module, torch.compile(model)))["kappa"]
    assert (compiled.values, compiled.settings) == (plain.values, plain.settings)
