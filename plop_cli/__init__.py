"""plop: where should LoRA adapters go? (PLoP: Hayou, Ghosh, Yu, arXiv 2506.20629)

    from plop_cli import recommend, score
    scores = score(model, tokenizer, texts)
    scores.recommended        # ['v_proj', 'up_proj', 'down_proj']
    model = recommend(scores, rank=16).apply(model)

Importing this package is cheap: torch and transformers come in when a name below is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from plop_cli.version import __version__

if TYPE_CHECKING:
    from plop_cli.errors import PlopError as PlopError
    from plop_cli.placement.placement import Placement as Placement
    from plop_cli.placement.recommend import recommend as recommend
    from plop_cli.runs.callback import PlopCallback as PlopCallback
    from plop_cli.scoring.score import score as score
    from plop_cli.scoring.scores import NFNScores as NFNScores


_HOME = {
    "score": "scoring.score",
    "NFNScores": "scoring.scores",
    "recommend": "placement.recommend",
    "Placement": "placement.placement",
    "PlopCallback": "runs.callback",
    "PlopError": "errors",
}

__all__ = ["NFNScores", "Placement", "PlopCallback", "PlopError", "__version__", "recommend", "score"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
