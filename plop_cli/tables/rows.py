"""Results → flat rows with plain, unrounded values, and rows → CSV, JSON lines or Markdown.

Rows need not have the same keys; a value that is missing is an empty cell.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from plop_cli.method.floor import told
from plop_registry.runs import finite

if TYPE_CHECKING:
    from plop_registry import ModuleScore, Run

Row = Mapping[str, Any]


def run_rows(run: Run, by: str) -> Sequence[Row]:
    """One run's scores by type, layer or module, in the order of its table. What is not finite is None."""
    if by == "layer":
        return _layers(run)
    rows: list[Row] = run.content()[f"{by}s"]
    return sorted(rows, key=lambda row: (row["nfn"] is None, row["nfn"]))


def _layers(run: Run) -> Sequence[Row]:
    layers: dict[int | None, list[ModuleScore]] = {}
    for module in run.modules:
        if math.isfinite(module.nfn):
            layers.setdefault(module.layer, []).append(module)
    rows: list[Row] = []
    for layer, modules in sorted(layers.items(), key=lambda item: (item[0] is None, item[0] or 0)):
        low, high = (choose(modules, key=lambda module: module.nfn) for choose in (min, max))
        rows.append(
            {
                "layer": layer,
                "nfn": sum(module.nfn for module in modules) / len(modules),
                "modules": len(modules),
                "lowest": low.type,
                "lowest_nfn": low.nfn,
                "highest": high.type,
                "highest_nfn": high.nfn,
            }
        )
    return rows


def summary(run: Run, types: Sequence[str]) -> Row:
    """A run on a page: what it is of, what to adapt, how sure that is, and the NFN of those of its types."""
    return {
        "run_id": run.id,
        "name": run.name,
        "note": run.note,
        "created_at": run.created_at.astimezone(UTC).isoformat(),
        "model": run.model_name,
        "label": run.label_name,
        "revision": run.model_revision,
        "task": run.task_name,
        "samples": run.samples,
        "dtype": run.dtype,
        "recommended": run.recommended,
        "confidence": told(run.confidence, run.samples),
        "nfn": {score.type: finite(score.nfn) for score in run.types if score.type in types},
    }


def history_rows(runs: Iterable[Run], types: Sequence[str]) -> list[Row]:
    """The same flat: a column for each of these types, and the recommended ones as words."""
    rows: list[Row] = []
    for run in runs:
        row = dict(summary(run, types))
        nfn = row.pop("nfn")
        rows.append({**row, "recommended": " ".join(run.recommended), **dict.fromkeys(types), **nfn})
    return rows


def to_csv(rows: Sequence[Row]) -> str:
    """A header and a line for each row."""
    if not rows:
        return ""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def to_jsonl(rows: Iterable[Row], *, ascii: bool = False) -> str:
    """An object on each line; with `ascii`, other characters are written as escapes."""
    return "".join(json.dumps(row, ensure_ascii=ascii, allow_nan=False) + "\n" for row in rows)


def to_markdown(rows: Sequence[Row]) -> str:
    """A table for people: three digits after the point."""
    columns = _columns(rows)
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "●" if value else ""
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", r"\|").replace("\n", " ")
