"""What must hold for a run to be found: filters as SQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select

from plop_registry.globs import fits
from plop_registry.schema import MODELS, RUNS, TASKS, TYPE_SCORES

Condition = ColumnElement[bool]


def where(
    *,
    id: str | None = None,
    key: str | None = None,
    model: str | None = None,
    task: str | None = None,
    revision: str | None = None,
    type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Condition]:
    """What must hold for a run; `Registry.runs` says how each is read. ValueError for a naive datetime."""
    if any(moment and moment.tzinfo is None for moment in (since, until)):
        raise ValueError("since and until must be aware datetimes")
    conditions: tuple[tuple[Callable[[Any], Condition], object], ...] = (
        (lambda value: RUNS.c.id == value, id),
        (lambda value: RUNS.c.key == value, key),
        (_of_model, model),
        (_of_task, task),
        (_of_revision, revision),
        (_with_type, type),
        (lambda value: RUNS.c.created_at >= value, since),
        (lambda value: RUNS.c.created_at <= value, until),
    )
    return [condition(value) for condition, value in conditions if value is not None]


def _of_model(pattern: str) -> Condition:
    name, at, revision = pattern.rpartition("@")
    means = fits(MODELS.c.source, pattern)
    if at:
        means = or_(means, and_(fits(MODELS.c.source, name), _revision(revision)))
    return RUNS.c.model.in_(select(MODELS.c.id).where(means))


def _of_revision(pattern: str) -> Condition:
    return RUNS.c.model.in_(select(MODELS.c.id).where(_revision(pattern)))


def _of_task(pattern: str) -> Condition:
    return RUNS.c.task.in_(select(TASKS.c.id).where(fits(TASKS.c.source, pattern)))


def _with_type(pattern: str) -> Condition:
    own = TYPE_SCORES.alias()  # not to be taken for the scores that are selected around it
    return exists().where(own.c.run == RUNS.c.number, fits(own.c.type, pattern))


def _revision(pattern: str) -> Condition:
    return or_(fits(MODELS.c.label, pattern), fits(MODELS.c.revision, pattern + "*"))
