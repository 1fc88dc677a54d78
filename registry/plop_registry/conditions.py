"""What must hold for a run to be found: filters as SQL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select

from plop_registry.globs import ends_in, fits
from plop_registry.schema import MODELS, RUNS, TASKS, TYPE_SCORES

Condition = ColumnElement[bool]

_CHECKPOINT = "(/checkpoint-[0-9]+)?"  # lies in the folder that its model is called after


def where(
    *,
    id: str | None = None,
    start: str | None = None,
    key: str | None = None,
    model: str | None = None,
    task: str | None = None,
    revision: str | None = None,
    type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    name: str | None = None,
    note: str | None = None,
) -> list[Condition]:
    """What must hold for a run; `Registry.runs` says how each is read. ValueError for a naive datetime."""
    if any(moment and moment.tzinfo is None for moment in (since, until)):
        raise ValueError("since and until must be aware datetimes")
    conditions: tuple[tuple[Callable[[Any], Condition], object], ...] = (
        (lambda value: RUNS.c.id == value, id),
        (lambda value: RUNS.c.id.startswith(value.lower()), start),
        (lambda value: RUNS.c.key == value, key),
        (_of_model, model),
        (_of_task, task),
        (_of_revision, revision),
        (_with_type, type),
        (lambda value: RUNS.c.created_at >= value, since),
        (lambda value: RUNS.c.created_at <= value, until),
        (lambda value: fits(RUNS.c.name, value), name),
        (lambda value: fits(RUNS.c.note, value), note),
    )
    return [condition(value) for condition, value in conditions if value is not None]


def _of_model(pattern: str) -> Condition:
    name, at, revision = pattern.rpartition("@")
    means = or_(fits(MODELS.c.source, pattern), ends_in(MODELS.c.path, _absolute(pattern), but_for=_CHECKPOINT))
    if at:
        named = or_(fits(MODELS.c.source, name), ends_in(MODELS.c.path, _absolute(name), but_for=_CHECKPOINT))
        means = or_(means, and_(named, _revision(revision)))
    return RUNS.c.model.in_(select(MODELS.c.id).where(means))


def _absolute(pattern: str) -> str:
    """What is written as a path here, as the paths that are stored: absolute, its links resolved."""
    path = os.path.expanduser(pattern)
    here = os.path.isabs(path) or re.match(r"\.{1,2}(/|$)", path)
    return (os.path.realpath(path) if here else path).rstrip("/")


def _of_revision(pattern: str) -> Condition:
    return RUNS.c.model.in_(select(MODELS.c.id).where(_revision(pattern)))


def _of_task(pattern: str) -> Condition:
    file, _, rest = pattern.partition(":")
    means = ends_in(TASKS.c.path, _absolute(file))
    if rest:
        means = and_(means, fits(TASKS.c.source, f"*:{rest}"))
    return RUNS.c.task.in_(select(TASKS.c.id).where(or_(fits(TASKS.c.source, pattern), means)))


def _with_type(pattern: str) -> Condition:
    own = TYPE_SCORES.alias()  # not to be taken for the scores that are selected around it
    return exists().where(own.c.run == RUNS.c.number, fits(own.c.type, pattern))


def _revision(pattern: str) -> Condition:
    adapter = ends_in(MODELS.c.adapter_path, _absolute(pattern))
    return or_(fits(MODELS.c.label, pattern), adapter, fits(MODELS.c.revision, pattern + "*"))
