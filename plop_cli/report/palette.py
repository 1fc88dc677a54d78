"""What charts are made of: rows, and the colours that tell their series and values apart."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""What a mark is drawn of."""

SERIES = 8
"""How many series a chart can tell apart."""
STEPS = 11
"""How many colours the scale of the NFN-map has."""

PALETTE = {
    "page": ("#ffffff", "#15181c"),
    "panel": ("#f5f7f9", "#1e2329"),
    "ink": ("#1b2127", "#e7eaee"),
    "muted": ("#56616c", "#a5afba"),
    "line": ("#d9dfe5", "#363e47"),
    "chosen": ("#1d5fa8", "#7db4f0"),
    "on-chosen": ("#ffffff", "#10151b"),
    "rest": ("#8a95a0", "#66717c"),
    # NFN below 1 is blue, above it orange, as deep as it is far: the two are told apart by every common colour vision.
    "d0": ("#1c4a86", "#8cc0f7"),
    "d1": ("#3a70b0", "#5f9bdc"),
    "d2": ("#6c9bcc", "#3b6aa0"),
    "d3": ("#a3c2e0", "#33597f"),
    "d4": ("#d2e0ee", "#2b4055"),
    "d5": ("#f3f3f1", "#2c3035"),
    "d6": ("#f9e0c8", "#4a3b2c"),
    "d7": ("#f1be8b", "#6d5030"),
    "d8": ("#df9550", "#865c2a"),
    "d9": ("#b05f18", "#c58d43"),
    "d10": ("#8a460d", "#f4b862"),
    "strong": ("#ffffff", "#11151a"),  # digits on the deep steps
    # Series: Okabe and Ito's colours, dark enough for a white ground and light enough for a dark one.
    "s0": ("#0067a5", "#5cb0ea"),
    "s1": ("#c8500a", "#f5935a"),
    "s2": ("#00835f", "#35c79d"),
    "s3": ("#a5508a", "#df97c5"),
    "s4": ("#8a6d00", "#dfc14a"),
    "s5": ("#4f5b66", "#aab6c2"),
    "s6": ("#2286a8", "#86d7ee"),
    "s7": ("#74432a", "#cfa081"),
}
"""Every colour, for a light ground and for a dark one."""
