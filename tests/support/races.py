"""Small races: a model of a few thousand weights, sums to learn, laps out of thin air."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plop_registry import Entry, Lap, Race, race_key

SHORT = {"rates": "2e-3,4e-3", "seeds": 2}


def sums(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Questions and answers, no two the same."""
    draw = Random(seed)
    pairs = draw.sample([(a, b) for a in range(40) for b in range(40)], count)
    return [{"question": f"{a}+{b}=", "answer": str(a + b)} for a, b in pairs]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """JSON lines."""
    import json

    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made_race(losses: Mapping[str, NDArray[np.float64]], *, parameters: Mapping[str, int] | None = None) -> Race:
    """A race whose whole laps have these test losses, (seeds, examples) for each contestant."""
    entries, laps = [], []
    for number, (name, table) in enumerate(losses.items()):
        size = (parameters or {}).get(name, 1000)
        entries.append(
            Entry(name, f"{number:016x}", ("q_proj",), 2, 4, 8, size, {"r": 4, "target_modules": ["q_proj"]})
        )
        for seed, test in enumerate(table):
            train = np.full(3, np.nan if np.isnan(test).any() else 1.0)
            measured = [] if np.isnan(test).any() else test
            laps.append(
                Lap(f"{number:016x}", 1e-3, seed, 3, 0.5, train, np.ones(4 if seed == 0 else 0), np.array(measured))
            )
    settings = {"steps": 3, "batch": 4, "dropout": 0.0, "size": "mlp:8", "dtype": "float32"}
    return Race(
        key=race_key(model_revision="0123", data_hash="abcd", settings=settings),
        created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        model_id="org/small",
        model_revision="0123",
        architecture="LlamaForCausalLM",
        dtype="float32",
        data_id="train.jsonl",
        data_hash="abcd",
        train=90,
        validation=4,
        test=next(iter(losses.values())).shape[1],
        settings=settings,
        nfn={"q_proj": 1.1, "v_proj": 0.9},
        plop_version="0.1.0",
        versions={"torch": "2.6.0"},
        device="cpu",
        entries=tuple(entries),
        laps=tuple(laps),
    )


def same(one: Race, other: Race) -> bool:
    """Whether two races hold the same, bit for bit, whatever the time their laps took."""
    kept = [{lap.key: lap.sha256() for lap in race.laps} for race in (one, other)]
    return kept[0] == kept[1] and one.entries == other.entries
