"""A run's tables: what the NFN-map in the terminal shows, and that a report shows the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from plop_cli.method.layers import layer_means
from plop_cli.report.answers import Answer
from plop_cli.tables.run import nfn_map
from plop_registry import ModuleScore, Registry
from report_runs import store


def module(layer: int | None, type: str, nfn: float) -> ModuleScore:
    return ModuleScore(f"layers.{layer}.{type}", type, layer, 8, 8, nfn, nfn**2)


def test_the_map_is_of_means_over_the_modules_that_share_layer_and_type_and_have_a_score() -> None:
    modules = [module(0, "up", 0.5), module(0, "up", 1.0), module(0, "up", math.nan), module(None, "up", 2.0)]
    assert layer_means([*modules, module(1, "down", math.nan)]) == {(0, "up"): 0.75, (None, "up"): 2.0}


def test_the_terminal_and_the_report_show_one_map(tmp_path: Path) -> None:
    """An expert that saw no token leaves neither a hole nor another mean."""
    with Registry(tmp_path / "registry.db") as registry:
        run = registry.get(store(registry).id)
    absent, *others = run.modules
    run = replace(run, modules=(replace(absent, nfn=math.nan), *others, replace(absent, name="other", nfn=0.25)))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(nfn_map(run))
    rows = {line.split()[0]: line.split()[1:] for line in capture.get().splitlines() if line.strip()}
    types = [score.type for score in run.types]
    cells = Answer("model", "task", (run,)).cells(types)
    assert len(cells) == len({(module.layer, module.type) for module in run.modules})
    for cell in cells:
        assert rows[str(cell["layer"])][types.index(cell["type"])] == f"{cell['nfn']:.2f}"
