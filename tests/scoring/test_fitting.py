"""Batches that do not fit: halved, said once, and counted once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from plop_cli import PlopError, score
from plop_cli.network.modules import LinearModule
from plop_cli.scoring.batches import batches
from plop_cli.scoring.meter import Meter
from small_models import Toy, numbers

TEXTS = [numbers([row % 5 for row in range(length)]) for length in (1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 8)]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


class Small(Toy):
    """Raises what CUDA raises when more than `most` tokens come at once, after its linear map has been observed."""

    most = 10**9
    refused = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        outputs = super().forward(input_ids, attention_mask)
        if input_ids.numel() > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return outputs


def toy(most: int) -> Small:
    generator = torch.Generator().manual_seed(0)
    model = Small(torch.randn(4, 8, generator=generator), torch.randn(5, 8, generator=generator))
    model.most = most
    return model


def test_a_batch_that_does_not_fit_is_halved_and_counted_once() -> None:
    whole = score(toy(10**9), Toy.tokenizer(5), TEXTS, batch_tokens=64)
    small = toy(16)
    scores = score(small, Toy.tokenizer(5), TEXTS, batch_tokens=64)
    assert (scores.matrix.counts == whole.matrix.counts).all()
    assert scores.modules[0].nfn == pytest.approx(whole.modules[0].nfn, rel=1e-6)
    # 9 texts as long as the longest of them, 6, are refused: half of 54 is 27. 4 of them are refused: half of 24 is 12.
    assert scores.warnings == ("64 tokens did not fit in memory at once: went on with 12 (--batch-tokens)",)
    assert small.refused == 2, "later batches come in the smaller size at once"


def test_what_fits_is_not_mentioned() -> None:
    assert score(toy(64), Toy.tokenizer(5), TEXTS, batch_tokens=64).warnings == ()


def test_one_text_that_does_not_fit_is_said() -> None:
    with pytest.raises(PlopError, match="a text of 8 tokens does not fit in memory"):
        score(toy(7), Toy.tokenizer(5), TEXTS, batch_tokens=64)


@needs_gpu
def test_batches_and_hooks_do_not_make_the_host_wait() -> None:
    """With every synchronisation an error (torch.cuda.set_sync_debug_mode), the pass's own parts still work."""
    device = torch.device("cuda")
    linear = torch.nn.Linear(8, 4, device=device)
    meter = Meter(samples=2, columns=1, device=device)
    modules = [LinearModule("linear", "linear", None, 8, 4, linear)]
    (batch,) = batches([[1, 2, 3], [4]], batch_tokens=64)
    torch.cuda.set_sync_debug_mode("error")
    try:
        here = batch.to(device)
        z = torch.ones(2, 3, 8, device=device)
        with torch.no_grad(), meter.watching(modules, [linear.bias.detach()]), meter.batch(here.rows, here.mask):
            linear(z)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert meter.read()[2].tolist() == [[3.0], [1.0]]


@needs_gpu
def test_on_a_gpu_the_scores_are_those_of_the_cpu() -> None:
    model = toy(10**9)
    here = score(model, Toy.tokenizer(5), TEXTS)
    there = score(model.to("cuda"), Toy.tokenizer(5), TEXTS)
    assert there.modules[0].nfn == pytest.approx(here.modules[0].nfn, rel=1e-4)
