"""What a shell is told when somebody presses the tab key: runs, models and tasks that the registry knows.

Nothing is imported here that takes time, and nothing is ever said: the line that is typed is not ours.
"""

from __future__ import annotations

from typing import Any

from plop_registry.beginnings import beginning


def runs(ctx: Any, incomplete: str) -> list[str]:
    """Ids of runs and races, names of runs, and `latest`."""
    return ["latest"] * "latest".startswith(incomplete) + list(beginning(incomplete, "run", _registry(ctx)))


def models(ctx: Any, incomplete: str) -> list[str]:
    """Models that were scored."""
    return ["demo"] * "demo".startswith(incomplete) + [*_others(ctx, incomplete, "model", ("demo",))]


def tasks(ctx: Any, incomplete: str) -> list[str]:
    """Tasks that models were scored on, and those that need no hub."""
    from plop_cli.texts.presets import PRESETS, SAMPLES

    built_in = sorted(name for name in (*PRESETS, *SAMPLES) if name.startswith(incomplete))
    return [*built_in, *_others(ctx, incomplete, "task", built_in)]


def signals(incomplete: str) -> list[str]:
    """Methods whose values can be compared."""
    from plop_cli.opinions.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def _others(ctx: Any, incomplete: str, kind: Any, known: Any) -> list[str]:
    return [name for name in beginning(incomplete, kind, _registry(ctx)) if name not in known]


def _registry(ctx: Any) -> str | None:
    given = ctx.params.get("registry")
    return given if isinstance(given, str) else None
