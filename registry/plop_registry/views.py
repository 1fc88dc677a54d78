"""What people ask of a registry in SQL: four views with the names that people know, instead of keys and packed bytes.

A column stays where it is named here, whatever becomes of the tables. The views live in the connection that asks.
"""

from __future__ import annotations

_RUN = "FROM {at}.runs AS r JOIN {at}.models AS m ON m.id = r.model JOIN {at}.tasks AS t ON t.id = r.task"

VIEWS = {
    "runs": (
        {
            "id": "r.id",
            "created_at": "r.created_at",
            "name": "r.name",
            "note": "r.note",
            "model": "m.source",
            "label": "m.label",
            "model_revision": "m.revision",
            "architecture": "m.architecture",
            "task": "t.source",
            "task_revision": "t.revision",
            "texts_hash": "t.texts_hash",
            "samples": "t.samples",
            "tokens": "r.tokens",
            "dtype": "r.dtype",
            "settings": "r.settings",
            "confidence": "r.confidence",
            "device": "r.device",
            "duration": "r.duration",
            "plop_version": "r.plop_version",
            "key": "r.key",
        },
        _RUN,
    ),
    "type_scores": (
        {
            "run": "r.id",
            "model": "m.source",
            "label": "m.label",
            "task": "t.source",
            **{name: f"s.{name}" for name in ("type", "modules", "nfn", "nfn_squared", "stderr")},
            **{name: f"s.{name}" for name in ("recommended", "confidence")},
        },
        f"{_RUN} JOIN {{at}}.type_scores AS s ON s.run = r.number",
    ),
    "module_scores": (
        {
            "run": "r.id",
            "model": "m.source",
            "label": "m.label",
            "task": "t.source",
            **{name: f"s.{name}" for name in ("name", "type", "layer", "in_features", "out_features")},
            **{name: f"s.{name}" for name in ("nfn", "nfn_squared", "stderr", "tokens")},
        },
        f"{_RUN} JOIN {{at}}.module_scores AS s ON s.run = r.number",
    ),
    "races": (
        {
            "id": "c.id",
            "created_at": "c.created_at",
            "model": "c.model_id",
            "label": "c.model_label",
            "model_revision": "c.model_revision",
            "architecture": "c.architecture",
            "dtype": "c.dtype",
            "data": "c.data_id",
            **{name: f"c.{name}" for name in ("data_hash", "train", "validation", "test", "settings", "nfn")},
            "contestants": "(SELECT count(*) FROM {at}.entries AS e WHERE e.race = c.number)",
            "laps": "(SELECT count(*) FROM {at}.laps AS l WHERE l.race = c.number)",
            "device": "c.device",
            "plop_version": "c.plop_version",
            "key": "c.key",
        },
        "FROM {at}.races AS c",
    ),
}
"""Each view: what its columns are made of, and where from; `{at}` is the schema that holds the tables."""


def statements(at: str) -> list[str]:
    """What makes the views, over the tables of the schema `at`."""
    return [
        f"CREATE TEMPORARY VIEW {view} AS SELECT "
        + ", ".join(f"{source.format(at=at)} AS {column}" for column, source in columns.items())
        + f" {tables.format(at=at)}"
        for view, (columns, tables) in VIEWS.items()
    ]
