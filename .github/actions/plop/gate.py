"""Scores a checkpoint, holds it against a baseline and tells a pull request: what the action beside this file runs.

    INPUT_MODEL=org/model INPUT_TASKS=sample/math python gate.py

Inputs are variables (INPUT_MODEL, INPUT_TASKS, …), called as in action.yml; GitHub's own are used where they are set.
It exits 0 where no condition of INPUT_FAIL_ON is met, 1 where one is, and 2 where that cannot be told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMENT = 65_536
"""Characters that GitHub lets a comment have."""

ALL = str(2**31 - 1)


class Untold(Exception):
    """Why it cannot be told whether something changed."""


@dataclass(frozen=True)
class Inputs:
    """What is to be done."""

    model: str
    tasks: list[str]
    baseline: str
    conditions: list[str]

    @classmethod
    def read(cls) -> Inputs:
        given = {
            name: os.environ.get(f"INPUT_{name}", "").strip() for name in ("MODEL", "TASKS", "BASELINE", "FAIL_ON")
        }
        if not given["MODEL"]:
            raise Untold("model is empty; give a hub id or a folder")
        tasks = list(dict.fromkeys(filter(None, map(str.strip, given["TASKS"].splitlines()))))
        if not tasks:
            raise Untold("tasks is empty; give one a line, such as sample/math")
        conditions = (given["FAIL_ON"] or "changed").split()
        for condition in conditions:
            if not re.fullmatch(r"changed|never|nfn:(\d+\.?\d*|\.\d+)", condition):
                raise Untold(f"fail-on: {condition!r} is no condition; give changed, nfn:X or never")
        if "never" in conditions and len(conditions) > 1:
            raise Untold("fail-on: never goes with no other condition; leave out one of them")
        wanted = [condition for condition in conditions if condition != "never"]
        return cls(given["MODEL"], tasks, given["BASELINE"] or "previous", wanted)


@dataclass(frozen=True)
class Verdict:
    """What is said of one task, and which conditions are met."""

    task: str
    said: str
    met: list[str]


def plop(*arguments: str, fine: Iterable[int] = (0,)) -> tuple[str, str]:
    """What a command of plop writes to stdout and stderr; the latter is shown too."""
    done = subprocess.run([sys.executable, "-m", "plop_cli", *arguments], capture_output=True, encoding="utf-8")
    sys.stderr.write(done.stderr)
    if done.returncode not in fine:
        lines = done.stderr.strip().splitlines() or [f"plop {arguments[0]} exited with {done.returncode}"]
        raise Untold(lines[-1].removeprefix("plop: "))
    return done.stdout, done.stderr


def scored(model: str, tasks: list[str]) -> list[str]:
    """The ids of the model's runs, one for each task."""
    told = json.loads(plop("score", *(f"--task={task}" for task in tasks), "--format=json", "--", model)[0])
    return [run["run_id"] for run in (told if isinstance(told, list) else [told])]


def history() -> list[dict[str, Any]]:
    """A row for each run of the registry."""
    return list(json.loads(plop("history", "--limit", ALL, "--format=json")[0]))


def previous(before: list[dict[str, Any]], runs: list[str]) -> list[str | None]:
    """For each run, the newest that the registry had `before` of the same model and task."""
    had = {row["run_id"] for row in before}
    rows = {row["run_id"]: row for row in history()}
    older = sorted((row for row in rows.values() if row["run_id"] in had), key=lambda row: row["created_at"])
    newest = {(row["model"], row["task"]): row["run_id"] for row in older}
    return [newest.get((rows[run]["model"], rows[run]["task"])) for run in runs]


def against_run(task: str, base: str | None, run: str, conditions: list[str]) -> Verdict:
    if base is None:
        return Verdict(task, "The registry had no run to compare with.", [])
    if base == run:
        return Verdict(task, f"The same weights and texts as in run {base[:8]}.", [])
    options = [f"--fail-on={condition}" for condition in conditions]
    told, errors = plop("compare", base, run, "--format=json", *options, fine=(0, 3))
    comparison = json.loads(told)
    said = " ".join([comparison["sentence"], *(f"Mind: {note}." for note in comparison["notes"])])
    met = [line.removeprefix("plop: ") for line in errors.splitlines() if "(--fail-on " in line]
    return Verdict(task, said, met)


def against_card(task: str, card: str, run: str, conditions: list[str]) -> Verdict:
    told, _ = plop("show", run, f"--against={card}", "--format=json", fine=(0, 1))
    if not told:  # exit 1 is also that of an error
        raise Untold(f"{card} cannot be held against run {run[:8]} (see above)")
    rows = json.loads(told)["differences"]
    lines = [f"{row['field']}: {_value(row['card'])} in {card}, {_value(row['run'])} in run {run[:8]}" for row in rows]
    met = [
        f"{line} (--fail-on {condition})"
        for condition in conditions
        for row, line in zip(rows, lines, strict=True)
        if _meets(row, condition)
    ]
    return Verdict(task, "\n".join(lines) or f"{card} says what run {run[:8]} says.", met)


def _meets(row: dict[str, Any], condition: str) -> bool:
    if condition == "changed":
        return bool(row["field"] == "types")
    if not row["field"].startswith("nfn."):
        return False
    one, other = row["card"], row["run"]
    return one is None or other is None or not abs(one - other) <= float(condition.removeprefix("nfn:"))


def _value(value: object) -> str:
    return "nothing" if value is None else " ".join(value) if isinstance(value, list) else str(value)


def judged(inputs: Inputs) -> tuple[list[str], list[str], list[Verdict]]:
    """The model's runs, those that they were compared with, and what came out."""
    baseline, before = inputs.baseline, history()
    if baseline.endswith(".md") and not Path(baseline).is_file():
        raise Untold(f"baseline: there is no {baseline}; give a model card, a run's id, a model, or previous")
    runs = scored(inputs.model, inputs.tasks)
    each = list(zip(inputs.tasks, runs, strict=True))
    if baseline.endswith(".md"):
        return runs, [], [against_card(task, baseline, run, inputs.conditions) for task, run in each]
    if baseline == "previous":
        bases = previous(before, runs)
    elif re.fullmatch(r"[0-9a-f]{8,16}", baseline):
        bases = [baseline] * len(runs)
    else:
        bases = [*scored(baseline, inputs.tasks)]
    known = [base for base in dict.fromkeys(bases) if base and base not in runs]
    verdicts = [against_run(task, base, run, inputs.conditions) for (task, run), base in zip(each, bases, strict=True)]
    return runs, known, verdicts


def page(inputs: Inputs, verdicts: list[Verdict]) -> str:
    """What is said first, in a fence, where neither names nor mentions do anything."""
    changed = any(verdict.met for verdict in verdicts)
    body = "\n\n".join(
        "\n".join([f"{verdict.task}: {verdict.said}", *(f"✗ {met}" for met in verdict.met)]) for verdict in verdicts
    )
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    title = "plop: a condition is met" if changed else "plop: no condition is met"
    told = " ".join(inputs.conditions) or "never"
    return f"**{title}** (fail-on: `{told}`)\n\n{fence}text\n{body}\n{fence}\n"


def comment(text: str, marker: str) -> None:
    """Write a comment on the pull request, or write the one of an earlier push anew. What fails is a warning."""
    event = os.environ.get("GITHUB_EVENT_PATH", "")
    number = json.loads(Path(event).read_text()).get("pull_request", {}).get("number") if event else None
    if number is None or os.environ.get("INPUT_COMMENT", "true") != "true":
        return
    comments = f"issues/{int(number)}/comments"
    try:
        own, at = None, 1
        while own is None and (found := github("GET", f"{comments}?per_page=100&page={at}")):
            mine = (each for each in found if each["body"].startswith(marker) and each["user"]["type"] == "Bot")
            own, at = next(mine, None), at + 1
        body = {"body": f"{marker}\n{text}"}
        github("PATCH", f"issues/comments/{own['id']}", body) if own else github("POST", comments, body)
    except (OSError, ValueError, KeyError) as error:
        why = (
            ""
            if getattr(error, "code", 0) not in (401, 403, 404)
            else ("; the job needs permissions: pull-requests: write, which a pull request from a fork never has")
        )
        annotate("warning", f"cannot comment on the pull request ({error}){why}")


def github(method: str, path: str, body: object = None) -> Any:
    url = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Accept": "application/vnd.github+json"}, method=method)
    request.add_unredirected_header("Authorization", f"Bearer {os.environ.get('INPUT_TOKEN', '')}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def annotate(kind: str, text: str) -> None:
    """A line that GitHub shows at the job."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{kind} title=plop::{escaped}")


def append(variable: str, text: str) -> None:
    """Add to the file that GitHub names, if it names one."""
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def main() -> int:
    try:
        inputs = Inputs.read()
        runs, bases, verdicts = judged(inputs)
        report = Path(os.environ.get("RUNNER_TEMP") or tempfile.mkdtemp()) / "plop-report.md"
        plop("report", *bases, *runs, "--format=md", f"--output={report}", "--overwrite")
    except Untold as error:
        annotate("error", str(error))
        return 2
    head, rest = page(inputs, verdicts), report.read_text(encoding="utf-8")
    append("GITHUB_STEP_SUMMARY", f"{head}\n{rest}")
    told = hashlib.sha256("\n".join([inputs.model.partition("@")[0], *inputs.tasks]).encode()).hexdigest()
    marker = f"<!-- plop {told[:12]} -->"
    whole = f"{head}\n{rest}"
    fits = len(marker) + 1 + len(whole) <= COMMENT
    comment(whole if fits else f"{head[: COMMENT // 2]}\nThe report is in the job's summary.", marker)
    changed = any(verdict.met for verdict in verdicts)
    append("GITHUB_OUTPUT", f"changed={str(changed).lower()}\nruns={' '.join(runs)}\nreport={report}\n")
    for verdict in verdicts:
        for met in verdict.met:
            annotate("error", f"{verdict.task}: {met}")
    return int(changed)


if __name__ == "__main__":
    sys.exit(main())
