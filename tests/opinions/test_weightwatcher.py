"""α against WeightWatcher itself, on real weights."""

from __future__ import annotations

import logging

import pytest
import torch

from plop_cli.opinions.weights import of_weights
from real_model import smollm2


@pytest.mark.slow
def test_alpha_of_every_module_is_that_of_weightwatcher() -> None:
    weightwatcher = pytest.importorskip("weightwatcher", reason="pip install --group weightwatcher is missing")
    model, _ = smollm2()
    blocks = torch.nn.ModuleList(model.model.layers[:2])
    logging.getLogger("weightwatcher").setLevel(logging.ERROR)
    details = weightwatcher.WeightWatcher(model=blocks).analyze(mp_fit=False, min_evals=10)
    theirs = dict(zip(details.longname, details.alpha, strict=True))
    ours = {module.name: module.value for module in of_weights(blocks)["alpha"].values}
    assert ours == pytest.approx(theirs, rel=1e-3)
