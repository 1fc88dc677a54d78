"""plop: where should LoRA adapters go? (PLoP: Hayou, Ghosh, Yu, arXiv 2506.20629)

    from plop_cli import recommend, score
    scores = score(model, tokenizer, texts)
    scores.recommended        # ['v_proj', 'up_proj', 'down_proj']
    model = recommend(scores, rank=16).apply(model)

`check` says what a trainer's config would really adapt.
`score_model`, `recommend_runs`, `second_opinions`, `compare_runs`, `list_runs` and `write_report` do what the commands
do, the registry in between. In a notebook, what these return is shown as a table; `.chart()` and `.map()` draw it.

Importing this package is cheap: torch and transformers come in when a name below is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from plop_cli.version import __version__
from plop_registry.shown import Painter, drawn_by

if TYPE_CHECKING:
    from plop_cli.checking.check import check as check
    from plop_cli.errors import PlopError as PlopError
    from plop_cli.library import compare_runs as compare_runs
    from plop_cli.library import list_runs as list_runs
    from plop_cli.library import recommend_runs as recommend_runs
    from plop_cli.library import score_model as score_model
    from plop_cli.library import second_opinions as second_opinions
    from plop_cli.library import write_report as write_report
    from plop_cli.placement.placement import Placement as Placement
    from plop_cli.placement.recommend import recommend as recommend
    from plop_cli.racing.race import race as race
    from plop_cli.runs.callback import PlopCallback as PlopCallback
    from plop_cli.scoring.score import score as score
    from plop_cli.scoring.scores import NFNScores as NFNScores


_HOME = {
    "NFNScores": "scoring.scores",
    "Placement": "placement.placement",
    "PlopCallback": "runs.callback",
    "PlopError": "errors",
    "check": "checking.check",
    "compare_runs": "library",
    "list_runs": "library",
    "race": "racing.race",
    "recommend": "placement.recommend",
    "recommend_runs": "library",
    "score": "scoring.score",
    "score_model": "library",
    "second_opinions": "library",
    "write_report": "library",
}

__all__ = [
    "NFNScores",
    "Placement",
    "PlopCallback",
    "PlopError",
    "__version__",
    "check",
    "compare_runs",
    "list_runs",
    "race",
    "recommend",
    "recommend_runs",
    "score",
    "score_model",
    "second_opinions",
    "write_report",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _painter() -> Painter:
    from plop_cli.report import notebook

    return notebook


drawn_by(_painter)
