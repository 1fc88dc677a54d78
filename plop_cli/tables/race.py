"""Races as tables: the answer, the history, the laps while they are run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plop_cli.placement.trainers.python import call
from plop_cli.racing.sentences import answer, notes, plus_minus, verdict
from plop_cli.racing.verdicts import Standing, baseline_of, stand, winner
from plop_cli.tables import fit
from plop_cli.tables.fit import cut, drop, fitted, shortened, wrap
from plop_cli.tables.plain import CHOSEN, plain_table
from plop_cli.tables.rows import Row
from plop_registry import Race
from plop_registry.runs import finite

_BLOCKS = "▁▂▃▄▅▆▇█"
_HEAD = 9  # characters of a name in the head of a column


def race_table(race: Race, *, width: int = 120) -> RenderableType:
    """Who stands where, in a sentence, and the config to take. In little room the table has fewer columns."""
    chosen = winner(race)
    grid = [{"": CHOSEN if chosen and each.entry == chosen.entry else "", **_cells(race, each)} for each in stand(race)]
    parts: list[RenderableType] = [
        Text(f"{race.model_id} on {race.data_id}", style="bold"),
        _standings(grid, width),
        Text(answer(race)),
        *(Text(f"  {note}") for note in notes(race)),
    ]
    if chosen:
        parts.append(Text("\n" + call("config = LoraConfig", dict(sorted(chosen.entry.config.items()))).rstrip()))
    return Group(*parts)


def _cells(race: Race, each: Standing) -> dict[str, str]:
    entry = each.entry
    return {
        "contestant": entry.name,
        "types": ", ".join(entry.types),
        "rank": str(entry.rank),
        "parameters": f"{entry.parameters / 1e6:.2f} M" if entry.parameters > 10**5 else f"{entry.parameters:,}",
        "rate": "–" if math.isnan(each.rate) else f"{each.rate:g}",
        "seeds": str(len(each.seeds)),
        "test loss": plus_minus(each.loss),
        f"from {shortened(baseline_of(race).name, _HEAD)}": plus_minus(each.behind, sign=True) if each.behind else "",
        "verdict": verdict(each),
    }


def _standings(grid: Sequence[Mapping[str, str]], width: int) -> Table:
    words = ("", "contestant", "types", "verdict")
    headers = [name if name in words else f">{name}" for name in grid[0]]
    give = [
        *drop("types"),
        *wrap("verdict"),
        *drop("seeds", "rate", "rank"),
        *cut("contestant"),
        *drop("parameters", ""),
    ]
    return fitted(headers, [fit.Row(row) for row in grid], width, give)


def race_document(race: Race) -> dict[str, Any]:
    """The JSON form: all that is stored, where everyone stands, and the answer."""
    chosen = winner(race)
    return {
        **race.to_dict(),
        "standings": race_rows(race),
        "winner": chosen.entry.name if chosen else None,
        "config": chosen.entry.config if chosen else None,
        "sentence": answer(race),
        "notes": list(notes(race)),
    }


def race_rows(race: Race) -> list[Row]:
    """A row for each contestant, with unrounded values."""
    return [_row(each) for each in stand(race)]


def _row(each: Standing) -> Row:
    gap = each.behind
    return {
        "contestant": each.entry.name,
        "types": " ".join(each.entry.types),
        "rank": each.entry.rank,
        "parameters": each.entry.parameters,
        "rate": finite(each.rate),
        "seeds": len(each.seeds),
        "diverged": each.diverged,
        "loss": finite(each.loss.mean),
        "loss_half": finite(each.loss.half),
        "difference": finite(gap.mean) if gap else None,
        "difference_half": finite(gap.half) if gap else None,
        "p": finite(gap.p) if gap else None,
        "verdict": each.verdict,
    }


def races_table(races: Sequence[Race], *, width: int = 120) -> RenderableType:
    """A row for each race, newest first."""
    headers = ("race", "when", "model", "examples", "contestants", ">steps", ">laps", "best")
    give = [*wrap("contestants"), *drop("steps"), *cut("examples", "model")]
    return fitted(headers, [fit.Row(row) for row in races_grid(races)], width, give) if races else Group()


def races_grid(races: Iterable[Race]) -> list[dict[str, str]]:
    """The cells of the history of races."""
    return [
        {
            "race": race.id[:8],
            "when": f"{race.created_at.astimezone():%Y-%m-%d %H:%M}",
            "model": race.model_id,
            "examples": race.data_id,
            "contestants": ", ".join(entry.name for entry in race.entries),
            "steps": str(race.settings["steps"]),
            "laps": str(len(race.laps)),
            "best": chosen.entry.name if (chosen := winner(race)) else "–",
        }
        for race in races
    ]


def races_rows(races: Iterable[Race]) -> list[Row]:
    """A flat row for each race."""
    return [
        {
            "race_id": race.id,
            "created_at": race.created_at.astimezone(UTC).isoformat(),
            "model": race.model_id,
            "revision": race.model_revision,
            "examples": race.data_id,
            "contestants": " ".join(entry.name for entry in race.entries),
            "steps": race.settings["steps"],
            "laps": len(race.laps),
            "winner": chosen.entry.name if (chosen := winner(race)) else None,
        }
        for race in races
    ]


def details(race: Race) -> RenderableType:
    """What identifies a race, and what it was run with."""
    table = Table.grid("", "", padding=(0, 2, 0, 0))
    settings = {name: value for name, value in sorted(race.settings.items()) if value not in ("", None)}
    for name, value in (
        ("race", race.id),
        ("begun", f"{race.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC by plop {race.plop_version}"),
        ("model", f"{race.model_id}, {race.architecture}, revision {race.model_revision}"),
        ("examples", f"{race.data_id}: {race.train} to train, {race.validation} to tune, {race.test} to test"),
        (
            "settings",
            ", ".join(f"{name} {value}" for name, value in settings.items()),
        ),
        ("with", ", ".join(f"{name} {version}" for name, version in sorted(race.versions.items()))),
        ("laps", f"{len(race.laps)}, {sum(lap.seconds for lap in race.laps):,.0f} seconds on {race.device}"),
    ):
        table.add_row(name, value)
    return table


def sparkline(losses: Sequence[float], width: int = 24) -> str:
    """Losses as blocks, the last `width` of them as means of as many neighbours as are needed."""
    if not losses:
        return ""
    size = -(-len(losses) // width)
    means = [sum(part) / len(part) for part in (losses[at : at + size] for at in range(0, len(losses), size))]
    low, high = min(means), max(means)
    return "".join(_BLOCKS[round((mean - low) / (high - low or 1) * (len(_BLOCKS) - 1))] for mean in means)


def lap_table(rows: Iterable[Mapping[str, str]], title: str) -> Table:
    """The laps as they are run: for each contestant its last."""
    table = plain_table("contestant", ">rate", ">seed", ">step", "loss", ">now", ">test loss")
    table.title = title
    for row in rows:
        table.add_row(*row.values())
    return table
