"""Races are kept whole, grow, travel, and go."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plop_cli.runs.exchange import read_runs, write_runs
from plop_registry import Race, Registry, RegistryError
from plop_registry.races import Lap
from plop_registry.racestore import from_line, to_line
from races import made_race, same


@pytest.fixture
def race() -> Race:
    draw = np.random.default_rng(0)
    return made_race({"PLoP": draw.normal(1, 0.1, (2, 5)), "MLP": draw.normal(1, 0.1, (2, 5))})


def test_a_race_comes_back_as_it_was_stored(url: str, race: Race) -> None:
    with Registry(url) as registry:
        assert registry.races.find(race.key) is None
        assert registry.races.add(race)
        found = registry.races.get(race.id[:4])
        assert same(found, race)
        assert found.content() == race.content()
        assert not registry.races.add(race)
        assert registry.races.all(model="org/*", type="q_*", since=race.created_at, limit=1)[0].key == race.key
        assert registry.races.all(task="other*") == []


def test_laps_are_added_one_by_one_and_each_once(url: str, race: Race) -> None:
    with Registry(url) as registry:
        registry.races.add(replace(race, laps=()))
        for lap in (*race.laps, *race.laps):
            registry.races.add(replace(race, entries=(), laps=(lap,)))
        found = registry.races.find(race.key)
        assert found is not None
        assert same(found, race)


def test_a_contestant_joins_later(url: str, race: Race) -> None:
    first, second = race.entries
    with Registry(url) as registry:
        registry.races.add(replace(race, entries=(first,)))
        registry.races.add(replace(race, entries=(second, first)))
        assert registry.races.get(race.id).entries == (first, second)


def test_a_race_travels_beside_the_runs(tmp_path: Path, race: Race) -> None:
    with Registry(tmp_path / "one.db") as one, Registry(tmp_path / "two.db") as two:
        one.races.add(race)
        assert write_runs(one, tmp_path / "all.jsonl", {}) == (0, 1)
        assert read_runs(two, tmp_path / "all.jsonl") == (1, 0)
        assert read_runs(two, tmp_path / "all.jsonl") == (0, 1)
        assert same(two.races.get(race.id), race)
        write_runs(two, tmp_path / "again.jsonl", {})
        assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()


def test_a_race_and_all_that_is_its_goes_when_it_is_removed(url: str, race: Race) -> None:
    with Registry(url) as registry:
        registry.races.add(race)
        assert registry.races.remove([race.id]) == 1
        assert registry.races.all() == []
        registry.races.add(replace(race, entries=(), laps=()))
        assert registry.races.get(race.id).laps == ()


@pytest.mark.parametrize("reference", ["", "0", "nonesuch", "ffff"])
def test_what_is_no_race_is_said(url: str, race: Race, reference: str) -> None:
    with Registry(url) as registry:
        registry.races.add(race)
        with pytest.raises(RegistryError, match="is no race"):
            registry.races.get(reference)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"format":1', '"format":9', "written by another plop"),
        ('"race_id":"', '"race_id":"0', "the id does not match"),
        ('"packed":"', '"packed":"AAAA', "a lap is damaged"),
        ('"sha256":"', '"sha256":"0', "a lap is damaged"),
        ('"rate":0.001', '"rate":0.002', "a lap is damaged"),
        ('"entries"', '"entrants"', "not an exported race"),
        ('"created_at":"', '"created_at":"x', "not an exported race"),
    ],
)
def test_a_damaged_line_is_refused(race: Race, before: str, after: str, said: str) -> None:
    line = to_line(race)
    assert same(from_line(line), race)
    assert before in line
    with pytest.raises(RegistryError, match=said):
        from_line(line.replace(before, after, 1))


@pytest.mark.parametrize("packed", [b"", b"x", zlib.compress(b"x"), zlib.compress(b"ploplap1" + bytes(12) + b"x")])
def test_a_damaged_lap_is_refused(packed: bytes) -> None:
    with pytest.raises(RegistryError, match="a lap is damaged"):
        Lap.unpack(packed, "", adapters="", rate=0.1, seed=0, steps=1, seconds=0.0)
