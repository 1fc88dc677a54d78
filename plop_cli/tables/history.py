"""What the registry's commands show of runs: the history, and what else is known of one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Column, Table

from plop_cli.printable import short
from plop_cli.tables.fit import Row, cut, drop, fitted, width_of, wrap
from plop_cli.tables.plain import model_name
from plop_registry import Run

_GIVE = [
    *drop("note", "dtype", "texts"),
    *wrap("LoRA into"),
    *drop("name", "when"),
    *cut("task", "model", "revision"),
    *drop("LoRA into", "task", "model"),
]
"""In which order columns give way where they do not fit."""


def history_table(runs: Sequence[Run], types: Sequence[str], *, width: int) -> RenderableType:
    """A row for each run. In little room, what all of them share stands above instead, or NFN by type is left out."""
    if not runs:
        return Group()
    full, bare = history_grid(runs, types), history_grid(runs, [])
    for rows, shared in ((full, {}), (full, _shared(full)), (bare, {})):
        if width_of(_headers(rows, shared), [Row(row) for row in rows]) <= width:
            return _history(rows, shared, width)
    return _history(bare, _shared(bare), width)


def _history(rows: Sequence[Mapping[str, str]], shared: Mapping[str, str], width: int) -> Table:
    table = fitted(_headers(rows, shared), [Row(row) for row in rows], width, _GIVE)
    if shared:
        table.title = " · ".join(f"{name} {value}" for name, value in shared.items() if value)
    return table


def _headers(rows: Sequence[Mapping[str, str]], shared: Mapping[str, str]) -> list[str]:
    """The columns that say something, but for what is said above."""
    left = ("run", "when", "name", "note", "dtype", "model", "revision", "task", "LoRA into")
    names = [name for name in rows[0] if name not in shared and any(row[name] for row in rows)]
    return [name if name in left else f">{name}" for name in names]


def _shared(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The cells that are the same in all of several rows."""
    first, *others = rows
    same = {name: value for name, value in first.items() if all(row[name] == value for row in others)}
    return {name: value for name, value in same.items() if others and name != "when"}


def history_grid(runs: Sequence[Run], types: Sequence[str]) -> list[dict[str, str]]:
    """The cells of the history, for people: short ids, local time, three digits; name and note where there are any."""
    said = [what for what in ("name", "note") if any(getattr(run, what) for run in runs)]
    rows = []
    for run in runs:
        scores = {score.type: f"{score.nfn:.3f}" for score in run.types}
        rows.append(
            {
                "run": run.id[:8],
                "when": f"{run.created_at.astimezone():%Y-%m-%d %H:%M}",
                **{what: short(getattr(run, what)) for what in said},
                "model": short(run.model_name),
                "revision": short(run.label_name) or run.model_revision[:8],
                "task": short(run.task_name),
                "texts": str(run.samples),
                "dtype": short(run.dtype),
                "LoRA into": ", ".join(run.recommended),
                **{name: scores.get(name, "") for name in types},
            }
        )
    return rows


def details(run: Run) -> RenderableType:
    """What identifies a run, what it was made with, and what it left out."""
    table = Table.grid("", Column(overflow="fold"), padding=(0, 2, 0, 0))
    for name, value in _details(run):
        table.add_row(name, short(value, 5_000))
    return table


def _details(run: Run) -> Iterator[tuple[str, str]]:
    yield "run", run.id
    yield from ((what, text) for what, text in (("name", run.name), ("note", run.note)) if text)
    yield "scored", f"{run.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC by plop {run.plop_version}"
    yield "model", f"{model_name(run)}, {run.architecture}, revision {run.model_revision}"
    yield "task", f"{run.task_name}, revision {run.task_revision}, texts {run.texts_hash}"
    paths = {"lies in": run.model_path, "adapter": run.adapter_path, "texts in": run.task_path}
    yield from ((what, path) for what, path in paths.items() if path)
    yield "settings", ", ".join(f"{name} {value}" for name, value in run.settings.items() if value is not None)
    yield "with", ", ".join(f"{name} {version}" for name, version in run.versions.items())
    for reason, count in Counter(skipped.reason for skipped in run.skipped).items():
        yield "skipped", f"{count} × {reason}"
    for warning in run.warnings:
        yield "warning", warning


def status_table(status: Mapping[str, Any]) -> RenderableType:
    """What `Registry.status` tells."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name in ("url", "runs", "models", "tasks"):
        table.add_row(name, str(status[name]))
    table.add_row("size", decimal(status["bytes"]))
    table.add_row("schema", status["schema"] or "none yet; plop score makes it")
    return table
