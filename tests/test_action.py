"""The GitHub Action: its script for real on small models, and what its steps may not do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from small_models import byte_tokenizer, qwen2
from structure import ROOT

ACTION = ROOT / ".github" / "actions" / "plop"
Gate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: in the second the types that amplify least are others."""
    folder = tmp_path_factory.mktemp("action")
    for name in ("before", "after"):
        model = qwen2()
        if name == "after":
            for layer in model.model.layers:
                layer.self_attn.v_proj.weight.data[1:] = 0
                layer.mlp.down_proj.weight.data[1:] = 0
        model.save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    (folder / "words.txt").write_text("".join(f"{'What is ' * (i % 5 + 1)}{i} plus {i * i}?\n" for i in range(20)))
    return folder


@pytest.fixture
def gate(models: Path, tmp_path: Path) -> Gate:
    """Run the script as the action does, with these inputs; what it writes for GitHub lies in tmp_path."""

    def run(**inputs: str) -> subprocess.CompletedProcess[str]:
        given = {"MODEL": "before", "TASKS": "words.txt", "COMMENT": "false"} | inputs
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        environment |= {f"INPUT_{name}": value for name, value in given.items() if name.isupper()}
        environment |= {name: value for name, value in given.items() if name.startswith("GITHUB_")}
        environment |= {
            "PLOP_REGISTRY": str(tmp_path / "registry.db"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        }
        script = [sys.executable, str(ACTION / "gate.py")]
        return subprocess.run(script, cwd=models, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"MODEL": ""}, "model is empty"),
        ({"TASKS": " \n "}, "tasks is empty"),
        ({"FAIL_ON": "sometimes"}, "'sometimes' is no condition"),
        ({"FAIL_ON": "nfn:lots"}, "'nfn:lots' is no condition"),
        ({"FAIL_ON": "never changed"}, "never goes with no other"),
        ({"BASELINE": "nowhere.md"}, "there is no nowhere.md"),
        ({"MODEL": "./nowhere"}, "nowhere"),
    ],
)
def test_what_it_is_given_wrongly_is_said_in_one_line_at_the_job(gate: Gate, inputs: dict[str, str], said: str) -> None:
    done = gate(**inputs)
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("::error"))
    assert said in line
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_it_passes_where_nothing_changed_and_fails_where_lora_would_go_elsewhere(gate: Gate, tmp_path: Path) -> None:
    first = gate()
    assert first.returncode == 0, first.stderr
    assert "The registry had no run to compare with." in (tmp_path / "summary.md").read_text()
    again = gate()
    assert again.returncode == 0, again.stderr
    assert "The same weights and texts" in (tmp_path / "summary.md").read_text()
    changed = gate(MODEL="after", BASELINE="before")
    assert changed.returncode == 1, changed.stderr
    assert any(line.startswith("::error") and "--fail-on changed" in line for line in changed.stdout.splitlines())
    told = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert told["changed"] == "true"
    assert Path(told["report"]).read_text().startswith("#")
    assert gate(MODEL="after", BASELINE="before", FAIL_ON="never").returncode == 0
    assert gate(MODEL="after", BASELINE="before", FAIL_ON="nfn:0").returncode == 1


@pytest.mark.slow
def test_a_model_card_is_a_baseline(gate: Gate, models: Path, tmp_path: Path) -> None:
    assert gate().returncode == 0
    card = tmp_path / "card.md"
    card.write_text((tmp_path / "plop-report.md").read_text())
    assert gate(BASELINE=str(card)).returncode == 0
    card.write_text(re.sub(r"^types: .*$", "types: [o_proj, q_proj]", card.read_text(), flags=re.MULTILINE))
    edited = gate(BASELINE=str(card))
    assert edited.returncode == 1, edited.stderr
    assert "o_proj q_proj in" in edited.stdout
    assert gate(MODEL="after", BASELINE=str(card)).returncode == 2, "the card is of another model"
    card.write_text("# Nothing of plop's\n")
    assert gate(BASELINE=str(card)).returncode == 2


@pytest.fixture
def github() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """A server that answers as GitHub's API of comments does, and what it was asked."""
    asked: list[tuple[str, str, Any]] = []
    comments: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked.append((self.command, self.path, body))
            if self.command == "POST":
                comments.append({"id": 7, "user": {"type": "Bot"}, **body})
            answer = json.dumps(comments if self.command == "GET" and "page=1" in self.path else []).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_one_comment_is_written_and_the_next_push_writes_it_anew(
    gate: Gate, github: tuple[str, list[tuple[str, str, Any]]], tmp_path: Path
) -> None:
    url, asked = github
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 3}}))
    given = {
        "COMMENT": "true",
        "GITHUB_API_URL": url,
        "GITHUB_REPOSITORY": "org/repository",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
    }
    assert gate(**given).returncode == 0
    assert gate(**given).returncode == 0
    written = [(method, path) for method, path, body in asked if body]
    assert written == [
        ("POST", "/repos/org/repository/issues/3/comments"),
        ("PATCH", "/repos/org/repository/issues/comments/7"),
    ]
    assert all(len(body["body"]) <= 65_536 and "plop" in body["body"] for _, _, body in asked if body)


def test_no_input_is_written_into_a_script() -> None:
    """What others may write (a branch's name, a title) would be run there."""
    steps = yaml.safe_load((ACTION / "action.yml").read_text())["runs"]["steps"]
    for step in steps:
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"actions/[\w/-]+@v\d+", step.get("uses", "actions/none@v1"))


def test_every_input_is_told_and_read() -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    for name, told in action["inputs"].items():
        assert told["description"].endswith("."), name
        assert f"inputs.{name}" in json.dumps(action["runs"]), name
