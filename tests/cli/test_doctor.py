"""`plop doctor`: says what is wrong and how to mend it, makes nothing, tells no secret, and asks the hub once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plop_cli.cli.app import app
from plop_registry import Registry

CHECKS = ["settings", "packages", "extras", "registry", "space", "hub", "device", "report", "demo"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLOP_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def findings(done: Result) -> dict[str, list[dict[str, str]]]:
    """What was found, by check."""
    rows = json.loads(done.stdout)["checks"]
    return {name: [row for row in rows if row["check"] == name] for name in dict.fromkeys(row["check"] for row in rows)}


def test_where_all_is_well_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    done = doctor("-f", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["healthy"] is True
    found = findings(done)
    assert list(found) == CHECKS
    assert {row["state"] for row in found["packages"] + found["report"] + found["registry"]} == {"ok"}
    assert "none yet" in found["registry"][0]["found"]
    assert list(tmp_path.iterdir()) == []
    shown = doctor().stdout
    assert all(name in shown for name in CHECKS)


def test_a_registry_is_told_with_its_schema(make_run: Callable[..., Any]) -> None:
    with Registry() as registry:
        registry.add(*make_run())
        head = registry.status()["head"]
    (row,) = findings(doctor("-f", "json"))["registry"]
    assert row["state"] == "ok"
    assert f"1 run, schema {head}, can be written" in row["found"]


@pytest.mark.parametrize(
    ("check", "mistake", "said"),
    [
        ("settings", {"plop.toml": "samples = "}, "line 1, column 11"),
        ("settings", {"plop.toml": "smaples = 1"}, "did you mean samples?"),
        ("settings", {"PLOP_SAMPELS": "1"}, "did you mean $PLOP_SAMPLES?"),
        ("registry", {"registry.db": "no registry"}, "not an SQLite file"),
        ("registry", {"PLOP_REGISTRY": "mysql://me:word@host/a"}, "give a path"),
        ("registry", {"PLOP_REGISTRY": "postgresql://me:word@127.0.0.1:1/a?password=word"}, "check the URL"),
        ("registry", {"file": "", "PLOP_REGISTRY": "file/registry.db"}, "no registry can be made"),
        ("space", {"file": "", "PLOP_REGISTRY": "file/registry.db"}, "make it a writable folder"),
        ("packages", {"typer-0.1.dist-info/METADATA": "Name: typer\nVersion: 0.1\n"}, "typer is 0.1, not >="),
        ("extras", {"peft-0.1.dist-info/METADATA": "Name: peft\nVersion: 0.1\n"}, "peft is 0.1, not >="),
    ],
)
def test_what_fails_is_told_with_its_remedy(
    check: str, mistake: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package that is too old is a real one: a folder of metadata that comes first on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in mistake.items():
        if name.startswith("PLOP_"):
            monkeypatch.setenv(name, text)
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    done = doctor("-f", "json")
    assert done.exit_code == 1, done.stdout
    found = findings(done)
    assert list(found) == CHECKS, "the other checks are made all the same"
    failed = [row for row in found[check] if row["state"] == "failed"]
    assert said in f"{failed[0]['found']}; {failed[0]['remedy']}"
    assert failed[0]["remedy"]
    assert "word" not in done.output.replace("password", "")
    assert "failed" in doctor().stdout


def test_a_registry_that_may_only_be_read_fails(postgres: Callable[[], str]) -> None:
    """A role that may read and not write is told so before hours of scoring."""
    psycopg = pytest.importorskip("psycopg")
    url = postgres()
    with Registry(url) as registry:
        registry.upgrade()
    schema = url.rpartition("%3D")[2]
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    done = doctor("-f", "json", "--registry", url.replace("plop@", "reader@"))
    (row,) = findings(done)["registry"]
    assert (done.exit_code, row["state"]) == (1, "failed")
    assert "permission denied" in row["found"]


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[str]]]:
    """Something at an address that answers with a status; what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{served.server_port}", asked
    finally:
        served.shutdown()
        served.server_close()


@pytest.mark.parametrize(
    ("status", "state", "said"), [(200, "ok", "answers; logged in"), (503, "warning", "answers with 503")]
)
def test_the_hub_is_asked_once_and_neither_token_nor_password_is_shown(status: int, state: str, said: str) -> None:
    with server(status) as (address, asked):
        done = program(HF_ENDPOINT=f"http://me:word@{address}", HF_TOKEN="hf_word")
    (row,) = findings(done)["hub"]
    assert (row["state"], len(asked)) == (state, 1)
    assert said in row["found"]
    assert "word" not in done.stdout


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "no URL", "ftp://127.0.0.1:1"])
def test_a_hub_that_does_not_answer_is_a_warning(endpoint: str) -> None:
    (row,) = findings(program(HF_ENDPOINT=endpoint))["hub"]
    assert (row["state"], bool(row["remedy"])) == ("warning", True)
    assert "gives no answer" in row["found"]


def test_torch_is_not_imported_where_no_gpu_can_be() -> None:
    if any(Path(driver).exists() for driver in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")) or sys.platform != "linux":
        pytest.skip("an accelerator can be here, so torch is asked")
    code = "from typer.testing import CliRunner; import sys; from plop_cli.cli.app import app\n"
    code += "CliRunner().invoke(app, ['doctor']); print({'torch', 'transformers', 'peft'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "set()\n"


def program(**environment: str) -> Any:
    """`plop doctor` in a process of its own: the hub's library reads its variables as it is imported."""
    return subprocess.run(
        [sys.executable, "-m", "plop_cli", "doctor", "-f", "json"],
        env={**os.environ, "no_proxy": "*", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
