"""Races are kept whole, grow, travel, and go."""

from __future__ import annotations

import sqlite3
import tracemalloc
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plop_cli.runs.exchange import read_runs, write_runs
from plop_registry import Race, Registry, RegistryError, race_key
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
        registry.races.add(replace(race, entries=race.entries[:1], laps=()))
        left = registry.races.get(race.id)
        assert (left.entries, left.laps) == (race.entries[:1], ())


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
        ('"race_id":"', '"race_id":"0', "race_id: String should match"),
        ('"packed":"', '"packed":"AAAA', "a lap is damaged"),
        ('"packed":"', '"packed":"*', "not an exported race"),
        ('"sha256":"', '"sha256":"0', "sha256: String should match"),
        ('"rate":0.001', '"rate":0.002', "a lap is damaged"),
        ('"rate":0.001', '"rate":NaN', "rate: Input should be a finite number"),
        ('"rate":0.001', '"rate":"0.001"', "rate: Input should be a valid number"),
        ('"seed":0', '"seed":-1', "seed: Input should be greater"),
        ('"seed":1', '"seed":0', "two laps are the same"),
        ('"seed":1', '"seed":2', "a lap is damaged"),
        ('"entries"', '"entrants"', "not an exported race"),
        ('"created_at":"', '"created_at":"x', "not an exported race"),
        ('"created_at":"2026', '"created_at":"1926', "before 1970"),
        ('"name":"MLP"', '"name":"\\u001b[31mMLP"', "control characters"),
        ('"rank":4', '"rank":0', "rank: Input should be greater"),
        ('"parameters":1000', '"parameters":1e999', "not an exported race"),
        ('"batch":4', '"batch":5', "does not match its key"),
        ('"test":5', '"test":6', "losses of other examples"),
        ('"settings":{', '"settings":{"deep":' + "[" * 5000 + "]" * 5000 + ",", "not an exported race"),
        ('"nfn":{', '"nfn":{"x_proj":-1,', "nfn"),
        ('"device":', '"gadget":', "not an exported race"),
        ('"adapters":"0000000000000001","alpha', '"adapters":"0000000000000009","alpha', "a lap is of no contestant"),
    ],
)
def test_a_damaged_line_is_refused(race: Race, before: str, after: str, said: str) -> None:
    line = to_line(race)
    assert same(from_line(line), race)
    assert before in line
    with pytest.raises(RegistryError, match=said):
        from_line(line.replace(before, after, 1))


def test_a_race_that_could_not_be_shown_is_refused(race: Race) -> None:
    settings = {**race.settings, "steps": "3"}
    key = race_key(model_revision=race.model_revision, data_hash=race.data_hash, settings=settings)
    short = replace(race.laps[0], train=race.laps[0].train[:1])
    for bad, said in (
        (replace(race, settings=settings, key=key), "of how many steps a lap is"),
        (replace(race, entries=(), laps=()), "no contestants"),
        (replace(race, laps=(short, *race.laps[1:])), "losses of other examples"),
    ):
        with pytest.raises(RegistryError, match=said):
            from_line(to_line(bad))


def test_no_more_of_a_lap_is_unpacked_than_its_header_says() -> None:
    bomb = zlib.compress(b"ploplap1" + (1).to_bytes(4, "little") + bytes(8) + bytes(1 << 27))
    tracemalloc.start()
    with pytest.raises(RegistryError, match="its size does not fit"):
        Lap.unpack(bomb, "", adapters="", rate=0.1, seed=0, steps=1, seconds=0.0)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE laps SET packed = X'78' WHERE seed = 1", "a lap is damaged"),
        ("UPDATE laps SET seconds = 99", "do not match their seal"),
        ("UPDATE laps SET rate = 0.5 WHERE seed = 1", "a lap is damaged"),
        ("DELETE FROM laps WHERE seed = 1", "do not match their seal"),
        ("UPDATE entries SET rank = 99", "do not match their seal"),
        ("UPDATE entries SET config = '{'", "cannot be read"),
        ("UPDATE races SET model_id = 'another'", "do not match their seal"),
        ("UPDATE races SET settings = '{}'", "does not match its key"),
        ("UPDATE races SET created_at = 'never'", "cannot be read"),
    ],
)
def test_a_damaged_race_is_said_and_passed_over(
    tmp_path: Path, race: Race, damage: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(
        race, key=race_key(model_revision="9", data_hash="abcd", settings=race.settings), model_revision="9"
    )
    with Registry(tmp_path / "registry.db") as registry:
        registry.races.add(race)
        assert registry.check() == []
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        connection.execute(damage)
        connection.commit()
    with Registry(tmp_path / "registry.db") as registry:
        registry.races.add(other)
        assert [each.id for each in registry.races.all()] == [other.id]
        assert f"race {race.id} is damaged and left out" in caplog.text
        assert any(problem.startswith(f"race {race.id}: ") and said in problem for problem in registry.check())
        with pytest.raises(RegistryError, match="is damaged"):
            registry.races.get(race.id)
        with pytest.raises(RegistryError, match="is damaged"):
            registry.races.add(race)
        assert registry.races.remove([registry.races.resolve(race.id)]) == 1
        assert registry.races.add(race)
        assert registry.check() == []


@pytest.mark.parametrize("packed", [b"", b"x", zlib.compress(b"x"), zlib.compress(b"ploplap1" + bytes(12) + b"x")])
def test_a_damaged_lap_is_refused(packed: bytes) -> None:
    with pytest.raises(RegistryError, match="a lap is damaged"):
        Lap.unpack(packed, "", adapters="", rate=0.1, seed=0, steps=1, seconds=0.0)
