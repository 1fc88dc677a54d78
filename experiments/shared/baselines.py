"""Where others would put adapters, without data: what plop says of the weights in their name (docs/opinions.md).

orders(model)["condition number"][:3]     # the types to adapt, first choice first
"""

from __future__ import annotations

from torch import nn

from plop_cli.opinions.ordering import ordering
from plop_cli.opinions.weights import of_weights

PEERS = {"condition number": "kappa", "stable rank": "stable-rank", "Spectrum's SNR": "snr", "heavy tail α": "alpha"}
"""What results call a method, and its key."""


def orders(model: nn.Module) -> dict[str, list[str]]:
    """By the name of each peer, all types in the order in which it would adapt them."""
    opinions = of_weights(model)
    return {name: list(ordering(opinions[key]).values) for name, key in PEERS.items()}
