"""Definition 1 of the paper read word for word, sharing no code with plop_cli: slow, plain, what the engine must match.

One unpadded text at a time, in float32. Each named module's input z is caught on its way in; W z is computed once more
from the weight itself; the baseline is the mean over thousands of random unit vectors. `experts.down_proj[3]` names the
fourth expert of a stack; its inputs are the tokens that the router chose it for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.pytorch_utils import Conv1D

NFN = tuple[float, float]
"""Step 1 of one module with plain norms, and with squared ones."""

Inputs = Callable[..., Tensor]
"""What a module is called with → z, (tokens, in)."""


@torch.no_grad()
def brute_force(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    names: Sequence[str],
    *,
    rows: Sequence[int] | slice = slice(None),
    seed: int = 20250620,
    weight: Callable[[nn.Module], Tensor] | None = None,
) -> list[NFN]:
    """NFN(W, D) of each of the named modules (of these rows of W), in their order; NaN where one saw no token.

    `weight` gives W, out × in, where it cannot be read.
    """
    model.eval()
    places = [_place(model, name, weight or _weight) for name in names]
    ratios: list[list[float]] = [[] for _ in names]
    handles = []
    places = [(module, W[rows], inputs) for module, W, inputs in places]
    for (module, W, inputs), seen in zip(places, ratios, strict=True):

        def measure(
            module: nn.Module,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            W: Tensor = W,
            inputs: Inputs = inputs,
            seen: list[float] = seen,
        ) -> None:
            z = inputs(*args, **kwargs)
            z = z[_norm(z) != 0]  # zero has no direction
            seen += (_norm(F.linear(z, W)) / _norm(z)).tolist()

        handles.append(module.register_forward_pre_hook(measure, with_kwargs=True))
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        both = {"decoder_input_ids": _shifted(model, ids)} if model.config.is_encoder_decoder else {}
        model(ids, **both)
    for handle in handles:
        handle.remove()

    generator = torch.Generator().manual_seed(seed)
    found = []
    for (_, W, _), seen in zip(places, ratios, strict=True):
        u = torch.randn(_probes(W), W.shape[1], generator=generator)
        baseline = _norm(F.linear(u / _norm(u)[:, None], W))
        plain = fmean(seen) if seen else torch.nan
        squared = fmean(r * r for r in seen) if seen else torch.nan
        found.append((plain / baseline.mean().item(), squared / (baseline**2).mean().item()))
    return found


def mean(modules: Sequence[NFN]) -> NFN:
    """Step 2: NFN of a type from those of its modules."""
    plain, squared = zip(*modules, strict=True)
    return fmean(plain), fmean(squared)


def _weight(module: nn.Module) -> Tensor:
    return module.weight.T if isinstance(module, Conv1D) else module.weight


def _place(model: Any, name: str, weight: Callable[[nn.Module], Tensor]) -> tuple[nn.Module, Tensor, Inputs]:
    """The module that is called, W (out, in), and what finds z in the call."""
    if not name.endswith("]"):
        module = model.get_submodule(name)
        W = weight(module)
        return module, W, lambda *args, **kwargs: next(iter([*args, *kwargs.values()])).reshape(-1, W.shape[1])
    path, _, parameter = name.partition("[")[0].rpartition(".")
    number, experts = int(name.partition("[")[2].rstrip("]")), model.get_submodule(path)
    W = getattr(experts, parameter)[number]

    def inputs(states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        z = states[[number in row for row in chosen.tolist()]]
        return _between(experts, number, z) if parameter == "down_proj" else z

    return experts, W.T if experts.is_transposed else W, inputs


def _between(experts: Any, number: int, z: Tensor) -> Tensor:
    """What the second weight of an expert is given, by the architecture's paper."""
    if _is_gpt_oss(experts):
        both = z @ experts.gate_up_proj[number] + experts.gate_up_proj_bias[number]
        gate, up = both[:, 0::2].clamp(max=7), both[:, 1::2].clamp(-7, 7)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)
    plain = experts.has_gate and not (experts.has_bias or experts.is_transposed)
    if not plain or not isinstance(getattr(experts, "act_fn", None), nn.SiLU | SiLUActivation):
        return _as_the_class_has_it(experts, number, z)
    both = z @ experts.gate_up_proj[number].T
    width = both.shape[1] // 2
    return F.silu(both[:, :width]) * both[:, width:]


def _as_the_class_has_it(experts: Any, number: int, z: Tensor) -> Tensor:
    """Of the many that no paper of ours tells: their own gate, or activation, of what the first weight makes of z."""
    first = "gate_up_proj" if experts.has_gate else "up_proj"
    W = getattr(experts, first)[number]
    both = z @ (W if experts.is_transposed else W.T)
    both = both + getattr(experts, f"{first}_bias")[number] if experts.has_bias else both
    inner: Tensor = experts._apply_gate(both) if experts.has_gate else experts.act_fn(both)
    return inner


def _is_gpt_oss(experts: nn.Module) -> bool:
    return type(experts).__name__ == "GptOssExperts"


def _shifted(model: Any, ids: Tensor) -> Tensor:
    return torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), ids[:, :-1]], dim=1)


def _probes(W: Tensor) -> int:
    """At least 2,048, and more where they are cheap: the narrow modules' baselines vary most."""
    return min(max(2048, 2**30 // W.numel()), 2**14)


def _norm(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=-1).sqrt()
