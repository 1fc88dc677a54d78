"""Opinions are kept whole, by revision and precision or by run, and a damaged one is as good as none."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plop_registry import ModuleValue, Opinion, Registry, RegistryError, Run, SampleMatrix, Skipped

MakeRun = Callable[..., tuple[Run, SampleMatrix]]

KAPPA = Opinion(
    "kappa",
    1,
    looks_at="weights",
    lowest=True,
    values=(ModuleValue("layers.0.q_proj", "q_proj", 187.25), ModuleValue("layers.0.v_proj", "v_proj", 0.1 + 0.2)),
    left_out=(Skipped("layers.1.q_proj", "all of its weights are zero"),),
    settings={"dtype": "float32"},
    seconds=1.5,
)
EVA = replace(KAPPA, method="eva", looks_at="activations", lowest=False)


def test_what_is_said_of_weights_comes_back_as_it_was_stored_by_revision_and_precision(url: str) -> None:
    with Registry(url) as registry:
        assert registry.opinions.of_weights("abcd", "float32") == {}
        registry.opinions.keep_of_weights("abcd", "float32", [KAPPA, replace(KAPPA, method="snr")])
        assert registry.opinions.of_weights("abcd", "float32") == {"kappa": KAPPA, "snr": replace(KAPPA, method="snr")}
        assert registry.opinions.of_weights("abcd", "nf4") == registry.opinions.of_weights("abc", "float32") == {}
        registry.opinions.keep_of_weights("abcd", "float32", [replace(KAPPA, version=2)])
        assert registry.opinions.of_weights("abcd", "float32")["kappa"].version == 2
        assert registry.check() == []


def test_what_is_said_of_a_run_goes_with_it(url: str, make_run: MakeRun) -> None:
    with Registry(url) as registry:
        run = registry.add(*make_run(0))
        registry.opinions.keep_of_run(run.id, [EVA])
        assert registry.opinions.of_run(run.id) == {"eva": EVA}
        registry.remove([run.id])
        assert registry.opinions.of_run(run.id) == {}
        with pytest.raises(RegistryError, match=r"no run .* any more; score it again"):
            registry.opinions.keep_of_run(run.id, [EVA])
        registry.add(*make_run(0))
        assert registry.opinions.of_run(run.id) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"kappa of layers\.0 is (nan|inf); leave the module out"):
        replace(KAPPA, values=(ModuleValue("layers.0", "q_proj", value),))


def test_a_damaged_opinion_is_as_good_as_none_and_check_names_it(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry.db") as registry:
        registry.opinions.keep_of_weights("abcd", "float32", [KAPPA, replace(KAPPA, method="snr")])
        registry.close()
        with sqlite3.connect(tmp_path / "registry.db") as database:
            database.execute("UPDATE weight_opinions SET packed = x'00' WHERE method = 'kappa'")
        assert list(registry.opinions.of_weights("abcd", "float32")) == ["snr"]
        assert registry.check() == ["model abcd: what is stored of kappa is damaged; it will be computed again"]


@pytest.mark.parametrize("packed", [b"", b"nonsense", KAPPA.pack()[:-9]])
def test_what_was_not_packed_is_refused(packed: bytes) -> None:
    with pytest.raises(RegistryError, match="an opinion is damaged"):
        Opinion.unpack(packed)
