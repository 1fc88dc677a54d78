"""What the registry keeps: plain, frozen values that know their JSON form and need no database.

    run = Run(key=run_key(...), created_at=datetime.now(UTC), types=(TypeScore(...), ...), ...)
    run.to_dict()                  # the JSON of `plop score --json`
    run.recommended                # ["v_proj", "up_proj", "down_proj"]

The JSON form is also what a run's id is a hash of.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from plop_registry.shown import Shown


@dataclass(frozen=True, slots=True)
class TypeScore:
    """One module type: the mean over its modules (paper, Step 2). `confidence`: how often it is in the chosen set."""

    type: str
    modules: int
    nfn: float
    nfn_squared: float
    stderr: float | None = None
    recommended: bool = False
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class ModuleScore:
    """One linear module: the mean over `tokens` tokens (paper, Step 1); NaN where it saw none."""

    name: str
    type: str
    layer: int | None
    in_features: int
    out_features: int
    nfn: float
    nfn_squared: float
    stderr: float | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class PartScore:
    """A part of a fused type, such as the queries of `qkv_proj`: for insight, as no adapter can go there alone."""

    type: str
    part: str
    modules: int
    nfn: float
    nfn_squared: float
    stderr: float | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A linear module that was not scored, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Shown):
    """One scoring of one model on one task. `id` is "" until stored; `modules` is () where they were not loaded.

    `types` is kept lowest NFN first, ties by name. `created_at` is aware (ValueError where it is not), `duration` in
    seconds, `confidence` the bootstrap probability of the recommended set as a whole.

    What follows `parts` is no part of what was scored (`remarks`): what its user calls the run and notes of it, and
    where model, adapter and the task's file lay, absolute; "" where that is not known. `aliases` has the names that
    tell its model, label or task from others of that id, in the registry that it was read from.
    """

    id: str = ""
    key: str
    created_at: datetime
    model_id: str
    model_revision: str
    model_label: str = ""
    architecture: str
    dtype: str
    task_id: str
    task_revision: str
    texts_hash: str
    samples: int
    tokens: int
    settings: dict[str, Any] = field(default_factory=dict)
    plop_version: str
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    duration: float = 0.0
    confidence: float | None = None
    types: tuple[TypeScore, ...]
    modules: tuple[ModuleScore, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: tuple[PartScore, ...] = ()
    name: str = ""
    note: str = ""
    model_path: str = ""
    adapter_path: str = ""
    task_path: str = ""
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must be an aware datetime")
        ranked = sorted(self.types, key=lambda score: (math.isnan(score.nfn), score.nfn, score.type))
        object.__setattr__(self, "types", tuple(ranked))

    @property
    def model_name(self) -> str:
        """The model's id, or the shortest name that tells it from others."""
        return self.aliases.get(("model", self.model_id), self.model_id)

    @property
    def label_name(self) -> str:
        """Likewise that of its revision."""
        return self.aliases.get(("label", self.model_label), self.model_label)

    @property
    def task_name(self) -> str:
        """Likewise that of its task."""
        return self.aliases.get(("task", self.task_id), self.task_id)

    @property
    def recommended(self) -> list[str]:
        """The types that PLoP adapts, lowest NFN first."""
        return [score.type for score in self.types if score.recommended]

    def to_dict(self, cached: bool = False) -> dict[str, Any]:
        """The JSON form, the same in `plop score --json`, `plop export` and here. What is not finite is None."""
        return {"run_id": self.id, "cached": cached, **self.content(), **self.remarks()}

    def remarks(self) -> dict[str, Any]:
        """What is said of the run, with a key for each that is: name, note, and paths (model, adapter, task)."""
        paths = {"model": self.model_path, "adapter": self.adapter_path, "task": self.task_path}
        said = {"name": self.name, "note": self.note, "paths": {name: path for name, path in paths.items() if path}}
        return {name: value for name, value in said.items() if value}

    def content(self) -> dict[str, Any]:
        """What the id is a hash of and an export line carries. Frozen: one more key would change every id.

        `parts`, which came later, is a key only where there are any.
        """
        return {
            "key": self.key,
            "created_at": self.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "model": {
                "id": self.model_id,
                "revision": self.model_revision,
                "label": self.model_label,
                "architecture": self.architecture,
                "dtype": self.dtype,
            },
            "task": {
                "id": self.task_id,
                "revision": self.task_revision,
                "texts_hash": self.texts_hash,
                "samples": self.samples,
                "tokens": self.tokens,
            },
            "settings": self.settings,
            "plop_version": self.plop_version,
            "versions": self.versions,
            "device": self.device,
            "duration": float(self.duration),
            "confidence": finite(self.confidence),
            "types": [_as_json(score) for score in self.types],
            "modules": [_as_json(score) for score in self.modules],
            "skipped": [{"name": skipped.name, "reason": skipped.reason} for skipped in self.skipped],
            "warnings": list(self.warnings),
            **({"parts": [_as_json(score) for score in self.parts]} if self.parts else {}),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any], id: str = "") -> Run:
        """The run that `content` or `to_dict` describes; KeyError, TypeError or ValueError where it describes none."""
        model, task, paths = content["model"], content["task"], content.get("paths", {})
        return cls(
            id=id,
            key=content["key"],
            created_at=datetime.fromisoformat(content["created_at"]),
            model_id=model["id"],
            model_revision=model["revision"],
            model_label=model["label"],
            architecture=model["architecture"],
            dtype=model["dtype"],
            task_id=task["id"],
            task_revision=task["revision"],
            texts_hash=task["texts_hash"],
            samples=task["samples"],
            tokens=task["tokens"],
            settings=content["settings"],
            plop_version=content["plop_version"],
            versions=content["versions"],
            device=content["device"],
            duration=content["duration"],
            confidence=content["confidence"],
            types=tuple(TypeScore(**_from_json(score)) for score in content["types"]),
            modules=tuple(ModuleScore(**_from_json(score)) for score in content["modules"]),
            skipped=tuple(Skipped(**skipped) for skipped in content["skipped"]),
            warnings=tuple(content["warnings"]),
            parts=tuple(PartScore(**_from_json(score)) for score in content.get("parts", ())),
            name=content.get("name", ""),
            note=content.get("note", ""),
            model_path=paths.get("model", ""),
            adapter_path=paths.get("adapter", ""),
            task_path=paths.get("task", ""),
        )


def run_key(
    *, model_revision: str, task_id: str, task_revision: str, texts_hash: str, settings: Mapping[str, Any]
) -> str:
    """What two runs share exactly when they must give the same digits (sha256, hex).

    The model's name is not in it: the same weights under another path have the same key. `settings` holds what can
    change a digit: samples, max_length, seed, dtype, quantization, chat, adapter, engine.
    """
    ingredients = {
        "model_revision": model_revision,
        "task_id": task_id,
        "task_revision": task_revision,
        "texts_hash": texts_hash,
        "settings": dict(settings),
    }
    return hashlib.sha256(canonical(ingredients).encode()).hexdigest()


def id_of(content: Mapping[str, Any], matrix_sha256: str) -> str:
    """16 hex digits of a hash of the whole run (`Run.content`) and its matrix: the same run has the same everywhere."""
    return hashlib.sha256(canonical({**content, "matrix": matrix_sha256}).encode()).hexdigest()[:16]


def seal_of(run: Run) -> str:
    """16 hex digits of a hash of a stored run without its modules, id included: what a listing can be verified by."""
    listed = {**run.content(), "modules": [], "run_id": run.id, **run.remarks()}
    return hashlib.sha256(canonical(listed).encode()).hexdigest()[:16]


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII. NaN is a ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def finite(value: float | None) -> float | None:
    """A float as it is stored: None for NaN and infinities; -0.0 is 0.0, as SQLite keeps no sign of zero."""
    return None if value is None or not math.isfinite(value) else float(value) + 0.0


_FLOATS = frozenset({"nfn", "nfn_squared", "stderr", "confidence"})


def _as_json(score: TypeScore | ModuleScore | PartScore) -> dict[str, Any]:
    values = ((name, getattr(score, name)) for name in score.__slots__)
    return {name: finite(value) if name in _FLOATS else value for name, value in values}


def _from_json(score: Mapping[str, Any]) -> dict[str, Any]:
    return {**score, **{name: math.nan for name in ("nfn", "nfn_squared") if score[name] is None}}
