"""Draw docs/score.svg, README's picture of a terminal, from the run on sample/math that `make demo` keeps.

make demo picture
"""

import io
from pathlib import Path

from rich.console import Console

from plop_cli.tables.run import nfn_map, run_table
from plop_registry import Registry

ROOT = Path(__file__).parent.parent

with Registry(ROOT / "demo" / "registry.db") as registry:
    run = registry.get("demo/sample/math")
console = Console(record=True, width=84, force_terminal=True, color_system="truecolor", file=io.StringIO())
console.print("$ plop score demo --task sample/math --map", style="bold")
console.print(run_table(run))
console.print(nfn_map(run))
console.save_svg(str(ROOT / "docs" / "score.svg"), title="plop", unique_id="plop")
