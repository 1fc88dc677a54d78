"""What the registry's commands show of runs: the history, and what else is known of one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Column, Table

from plop_cli.tables.plain import model_name, plain_table, widest
from plop_registry import Run


def history_table(runs: Sequence[Run], types: Sequence[str], *, width: int) -> RenderableType:
    """A row for each run. In little room, what all of them share stands above instead, or NFN by type is left out."""
    if not runs:
        return Group()
    full, bare = history_grid(runs, types), history_grid(runs, [])
    tables = [_history(full), _history(full, _shared(full)), _history(bare), _history(bare, _shared(bare))]
    return widest(tables, width)


def _history(rows: Sequence[Mapping[str, str]], shared: Mapping[str, str] | None = None) -> Table:
    names = [name for name in rows[0] if name not in (shared or {})]
    whole, words = ("run", "when", "dtype"), ("model", "revision", "task", "LoRA into")
    table = plain_table(*(name if name in (*whole, *words) else f">{name}" for name in names))
    for name, column in zip(names, table.columns, strict=True):
        column.no_wrap = name not in words
    for row in rows:
        table.add_row(*(row[name] for name in names))
    if shared:
        table.title = " · ".join(f"{name} {value}" for name, value in shared.items())
    return table


def _shared(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The cells that are the same in all of several rows."""
    first, *others = rows
    same = {name: value for name, value in first.items() if all(row[name] == value for row in others)}
    return {name: value for name, value in same.items() if others and name != "when"}


def history_grid(runs: Sequence[Run], types: Sequence[str]) -> list[dict[str, str]]:
    """The cells of the history, for people: short ids, local time, three digits."""
    rows = []
    for run in runs:
        scores = {score.type: f"{score.nfn:.3f}" for score in run.types}
        rows.append(
            {
                "run": run.id[:8],
                "when": f"{run.created_at.astimezone():%Y-%m-%d %H:%M}",
                "model": run.model_id,
                "revision": run.model_label or run.model_revision[:8],
                "task": run.task_id,
                "texts": str(run.samples),
                "dtype": run.dtype,
                "LoRA into": ", ".join(run.recommended),
                **{name: scores.get(name, "") for name in types},
            }
        )
    return rows


def details(run: Run) -> RenderableType:
    """What identifies a run, what it was made with, and what it left out."""
    table = Table.grid("", Column(overflow="fold"), padding=(0, 2, 0, 0))
    for name, value in _details(run):
        table.add_row(name, value)
    return table


def _details(run: Run) -> Iterator[tuple[str, str]]:
    yield "run", run.id
    yield "scored", f"{run.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC by plop {run.plop_version}"
    yield "model", f"{model_name(run)}, {run.architecture}, revision {run.model_revision}"
    yield "task", f"{run.task_id}, revision {run.task_revision}, texts {run.texts_hash}"
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
