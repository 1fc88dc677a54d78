"""Linear layers with a forward of their own are scored as what they compute, or left out with the reason."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.bitnet import AutoBitLinear
from transformers.integrations.gemma_quant import QuantizedLinear
from transformers.models.falcon.modeling_falcon import FalconLinear

from plop_cli import PlopError, score
from small_models import Toy, gaussian, numbers

pytestmark = pytest.mark.usefixtures("one_thread")

IN, OUT, TOKENS = 256, 128, 12
W = gaussian(OUT, IN, seed=1) * torch.linspace(3, 0.1, IN)
"""Small inputs meet small weights, so that NFN is far from 1."""
Z = gaussian(TOKENS, IN, seed=2) * torch.linspace(2, 0.5, IN)
TEXTS = [numbers(range(TOKENS)), numbers([3, 1])]
ROWS = [*range(TOKENS), 3, 1]


def scored(linear: nn.Module) -> float:
    """NFN of `linear` on Z."""
    toy = Toy(W, Z)
    toy.linear = linear
    (module,) = score(toy, Toy.tokenizer(TOKENS), TEXTS).modules
    return module.nfn


@torch.no_grad()
def definition_1(linear: Any) -> float:
    """‖W z‖ / E‖W z̃‖ of each token, W being whatever the layer makes of its input: z̃ is a Gaussian of z's own size."""
    u = torch.randn(2048, IN, generator=torch.Generator().manual_seed(3))
    bias = linear(torch.zeros(1, IN))
    ratios = []
    for z in Z[ROWS]:
        tilde = u / u.norm(dim=1, keepdim=True) * z.norm()
        ratios.append((linear(z[None]) - bias).norm() / (linear(tilde) - bias).norm(dim=1).mean())
    return float(torch.stack(ratios).mean())


@torch.no_grad()
def given(linear: Any, weight: Tensor = W) -> Any:
    linear.requires_grad_(False).weight.copy_(weight)
    return linear


def bitnet(**options: Any) -> Any:
    return given(AutoBitLinear(IN, OUT, **options))


def gemma(step: float) -> Any:
    """8-bit weights, and inputs rounded to multiples of `step` (0: not rounded)."""
    linear = given(QuantizedLinear(IN, OUT), (W * 12).round().clamp(-127, 127))
    linear.weight_scale.fill_(1 / 12)
    linear.input_activation_scale.fill_(step)
    return linear


def patched(linear: Any) -> Any:
    """A forward that was set on the instance."""
    linear.forward = lambda z: nn.functional.linear(z, linear.weight.sign() * linear.weight.abs().mean())
    return linear


def hooked(linear: Any) -> Any:
    """A hook that masks the outputs."""
    linear.register_forward_hook(lambda module, args, output: output * (torch.arange(OUT) % 3 > 0))
    return linear


LAYERS: dict[str, Callable[[], Any]] = {
    "plain": lambda: given(nn.Linear(IN, OUT)),
    "BitNet, weights rounded in the forward": lambda: bitnet(online_quant=True),
    "BitNet, weights rounded before": lambda: bitnet(bias=False),
    "Falcon": lambda: given(FalconLinear(IN, OUT)),
    "Gemma, inputs as they are": lambda: gemma(0),
    "Gemma, inputs rounded": lambda: gemma(0.1),
    "a forward of the instance": lambda: patched(given(nn.Linear(IN, OUT, bias=False))),
    "a hook": lambda: hooked(given(nn.Linear(IN, OUT))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_score_is_that_of_what_the_layer_computes(name: str) -> None:
    linear = LAYERS[name]()
    assert scored(linear) == pytest.approx(definition_1(linear), rel=0.01)


def test_the_weight_of_a_bitnet_layer_is_not_what_it_multiplies_by() -> None:
    assert scored(bitnet(online_quant=True)) != pytest.approx(scored(given(nn.Linear(IN, OUT))), rel=0.05)


def test_a_hook_that_changes_the_input_changes_z_and_not_the_weight() -> None:
    linear, keep = given(nn.Linear(IN, OUT)), torch.arange(IN) % 3 > 0
    masked = Toy(W, Z * keep)
    masked.linear = linear
    expected = score(masked, Toy.tokenizer(TOKENS), TEXTS).modules
    linear.register_forward_pre_hook(lambda module, args: (args[0] * keep,))
    assert scored(linear) == pytest.approx(expected[0].nfn)


class Norming(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.normalize(input, dim=-1))


class Insisting(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        _batch, _length, _width = input.shape
        return super().forward(input)


@pytest.mark.parametrize(
    ("linear", "reason"),
    [
        (lambda: bitnet(use_rms_norm=True), "linear: it is no linear map"),
        (lambda: given(Norming(IN, OUT)), "linear: it is no linear map"),
        (lambda: gemma(20.0), "linear: its weight is zero|linear: it is no linear map"),
        (lambda: given(Insisting(IN, OUT)), r"linear: it cannot be probed \(ValueError"),
    ],
)
def test_what_is_no_linear_map_is_left_out_with_the_reason(linear: Callable[[], Any], reason: str) -> None:
    with pytest.raises(PlopError, match=f"no module has a score: ({reason})"):
        scored(linear())


# Every subclass that is installed


def subclasses() -> Iterator[tuple[str, type[nn.Linear]]]:
    """All nn.Linear subclasses in the sources of transformers, bitsandbytes and torchao that can be imported here."""
    for package in ("transformers", "bitsandbytes", "torchao"):
        pytest.importorskip(package, reason="pip install 'plop-cli[quant]' is missing")
        root = Path(str(importlib.import_module(package).__file__)).parent
        for file in sorted(root.rglob("*.py")):
            source = file.read_text()
            if file.name.startswith("modular_") or not re.search(r"^class \w+\([^)]*Linear", source, re.MULTILINE):
                continue
            path = ".".join([package, *file.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")
            try:
                module = importlib.import_module(path)
            except (ImportError, AssertionError):  # for other machines
                continue
            for name in re.findall(r"^class (\w+)\(", source, re.MULTILINE):
                found = getattr(module, name, None)
                if inspect.isclass(found) and issubclass(found, nn.Linear):
                    yield f"{path}.{name}", found


ARGUMENTS: dict[str, dict[str, Any]] = {
    "AutoBitLinear": {"online_quant": True},
    "QuantizeLinear": {"w_bits": 4},
    "Linear8bitLt": {"has_fp16_weights": False},
    "DeepseekV4GroupedLinear": {"n_groups": 2},
}
SCORED = {
    "AutoBitLinear",
    "CompressedTensorsFP8Linear",
    "EsmFoldLinear",
    "FalconLinear",
    "QuantizedLinear",
    "FakeQuantizedLinear",
    "Int8DynActInt4WeightQATLinear",
    "Linear8bitLt",
    "LinearNF4",
    "LinearFP4",
    "NVFP4ObservedLinear",
    "QuantizeLinear",
}
"""Those that are known to run on any machine, so that the test below cannot pass for having tried nothing."""


def built(kind: type[nn.Linear]) -> Any:
    """One that has run; an error where this machine cannot, or where it wants more than a shape."""
    options = ARGUMENTS.get(kind.__name__, {})
    takes_bias = "bias" in inspect.signature(kind.__init__).parameters
    linear: Any = kind(IN, OUT, **({"bias": False} if takes_bias else {}), **options).requires_grad_(False)
    if linear.weight.is_floating_point():
        linear.weight.data = W.to(linear.weight.dtype).clone()
        if kind.__module__.startswith("bitsandbytes"):
            import bitsandbytes

            of = bitsandbytes.nn.Int8Params if kind.__name__ == "Linear8bitLt" else bitsandbytes.nn.Params4bit
            more = {"has_fp16_weights": False} if of is bitsandbytes.nn.Int8Params else {"quant_type": "nf4"}
            linear.weight = of(W.clone(), requires_grad=False, **more)
            linear = linear.to("cpu")
    for name, values in (*linear.named_parameters(), *linear.named_buffers()):
        if "weight_scale" in name or "weight_clip" in name:  # which torch leaves as memory was
            values.data.fill_(1)
    if kind is QuantizedLinear:
        linear = gemma(0)
    with torch.no_grad():
        assert linear(Z[None]).shape == (1, TOKENS, OUT)
    return linear


@pytest.mark.slow
def test_every_installed_subclass_is_scored_right_or_left_out() -> None:
    right, refused, elsewhere = set(), {}, {}
    for name, kind in subclasses():
        try:
            linear = built(kind)
            truth = definition_1(linear)
        except BaseException as error:  # noqa: BLE001  # for a GPU, a kernel, a configuration
            elsewhere[name] = type(error).__name__
            continue
        try:
            # What a layer makes of a token may depend on the others in its batch, by rounding.
            assert scored(linear) == pytest.approx(truth, rel=0.02), name
            right.add(kind.__name__)
        except PlopError as error:
            refused[name] = str(error)
    assert right >= SCORED, (refused, elsewhere)
