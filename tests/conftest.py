"""What tests share: a small model, a PostgreSQL, a place for a registry on either database, and runs to put in it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import forms
from plop_registry import ModuleScore, Run, SampleMatrix, Skipped, TypeScore

MakeRun = Callable[..., tuple[Run, SampleMatrix]]


@pytest.fixture(scope="session", autouse=True)
def no_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A developer's own settings and registry are nothing to the tests; what steers the tests themselves stays."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PLOP_")]:
            if name not in ("PLOP_FREEZE", "PLOP_GOLDEN"):
                patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """^C reaches the commands that tests start, also where a shell began the tests in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def published_forms() -> Iterator[None]:
    """Whatever JSON a command prints in a test is of its published form."""
    invoke = CliRunner.invoke

    def checked(runner: CliRunner, app: Any, args: Any = None, **options: Any) -> Any:
        result = invoke(runner, app, args, **options)
        forms.check_output([*args], result.stdout)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CliRunner, "invoke", checked)
        yield


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2 with its tokenizer, as save_pretrained leaves it. Copy it before you change it."""
    from small_models import byte_tokenizer, qwen2

    folder = tmp_path_factory.mktemp("models") / "tiny"
    qwen2().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For small models: threads cost them more than they give, above all where others want the cores too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl: on Debian outside of $PATH, the newest version's where there are several."""
    asked = shutil.which("pg_config")
    told = (
        subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=True).stdout.strip() if asked else ""
    )
    folders = [Path(told), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """A PostgreSQL of the session's own, reached by a socket: each call gives the URL of a new place in it."""
    psycopg = pytest.importorskip("psycopg")
    programs = _postgres_programs()
    if programs is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no PostgreSQL here (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="plop-postgres-"))
    user = []
    if os.geteuid() == 0:  # initdb refuses root
        shutil.chown(folder, "postgres")
        user = ["runuser", "-u", "postgres", "--"]

    def program(name: str, *arguments: str) -> None:
        subprocess.run([*user, programs / name, *arguments], check=True, cwd="/", stdout=subprocess.DEVNULL)

    server = f"-F -c listen_addresses='' -c unix_socket_directories={folder}"
    program("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "plop", "-E", "UTF8", "--no-locale", "--no-sync")
    program("pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", server, "--wait", "start")

    numbers = itertools.count()

    def schema() -> str:  # as good as a database of its own, and 0.2 s faster
        name = f"test{next(numbers)}"
        with psycopg.connect(f"host={folder} user=plop dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://plop@/postgres?host={folder}&options=-csearch_path%3D{name}"

    try:
        yield schema
    finally:
        program("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Callable[[], str]:
    """Gives the URL of one more registry, which does not exist yet, on the database under test."""
    if database == "postgres":
        return request.getfixturevalue("postgres")
    numbers = itertools.count()
    return lambda: str(tmp_path / f"registry{next(numbers)}.db")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Runs the test on SQLite and on PostgreSQL."""
    return str(request.param)


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """A registry's URL, on SQLite and on PostgreSQL; there is none there yet."""
    return new_url()


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    return _make_run


def _make_run(seed: int = 0, samples: int = 3, per_type: int = 2, **changes: Any) -> tuple[Run, SampleMatrix]:
    """A run whose parts agree, a second later for each `seed`; `changes` go to its fields."""
    rng = np.random.default_rng(seed)
    types = ["q_proj", "v_proj", "up_proj", "down_proj"] * per_type
    shape = (samples, len(types))
    matrix = SampleMatrix(
        texts=rng.integers(2**64, size=samples, dtype=np.uint64),
        sums=rng.random(shape) * 9,
        squares=rng.random(shape) * 9,
        counts=rng.integers(1, 9, size=shape),
    )
    tokens = matrix.counts.sum(axis=0)
    nfn, squared = (array.sum(axis=0, dtype=float) / tokens for array in (matrix.sums, matrix.squares))
    modules = tuple(
        ModuleScore(
            f"layers.{i // 4}.{t}", t, i // 4, 64, 32, float(nfn[i]), float(squared[i]), 0.01 * i, int(tokens[i])
        )
        for i, t in enumerate(types)
    )
    means = {t: [float(array[types.index(t) :: 4].mean()) for array in (nfn, squared)] for t in types}
    scores = tuple(
        TypeScore(
            t, per_type, *means[t], stderr=0.02, recommended=means[t][0] == min(means.values())[0], confidence=0.9
        )
        for t in means
    )
    run = Run(
        key=f"{seed:064x}",
        created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC) + timedelta(seconds=seed),
        model_id="org/small",
        model_revision="0123456789abcdef",
        model_label="main",
        architecture="LlamaForCausalLM",
        dtype="float32",
        task_id="gsm8k",
        task_revision="fedcba",
        texts_hash="ab" * 32,
        samples=samples,
        tokens=int(matrix.counts.sum()),
        settings={"samples": samples, "max_length": 256, "seed": 0, "chat": None, "rate": 0.1},
        plop_version="0.1.0",
        versions={"torch": "2.6.0"},
        device="cpu",
        duration=1.5,
        confidence=0.97,
        types=scores,
        modules=modules,
        skipped=(Skipped("lm_head", "tied to the embedding"),),
        warnings=("few samples",),
    )
    return replace(run, **changes), matrix
