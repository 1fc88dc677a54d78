"""How large a report gets, and how long it takes to write: `python benchmarks/report_size.py [RUNS...]`.

Runs are synthetic, of 30 layers × 7 types and 32 texts, with four tasks for each model.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from plop_cli.report.page import render_html
from plop_cli.report.story import tell
from plop_registry import Registry

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from report_runs import TASKS, store

print(f"{'runs':>5} {'MB':>6} {'seconds':>8}  of which drawn")
for count in map(int, sys.argv[1:] or ("1", "50", "500")):
    with tempfile.TemporaryDirectory() as folder, Registry(Path(folder, "registry.db")) as registry:
        for number in range(count):
            model, task = divmod(number, len(TASKS))
            store(registry, f"org/model-{model}", TASKS[task], number=number, layers=30, samples=32)
        started = time.perf_counter()
        story = tell(registry.runs(), registry)
        page = render_html(story, written=datetime(2026, 1, 2, tzinfo=UTC), command="plop report")
        seconds = time.perf_counter() - started
    print(f"{count:5} {len(page.encode()) / 1e6:6.2f} {seconds:8.1f}  {len(story.drawn)}", flush=True)
