"""What a shell can do to a program: streams, outputs, arguments, an environment. One line is said, or all is well."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plop_registry import Registry

GOLDEN = Path(__file__).parent.parent / "golden"
PLOP = f"{sys.executable} -m plop_cli"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stocked") / "registry.db"
    with Registry(path) as store:
        for name in ("smollm2", "tuned"):
            store.import_lines((GOLDEN / f"{name}.jsonl").read_text().splitlines(), name)
    return path


@pytest.fixture
def registry(stocked: Path, tmp_path: Path) -> Path:
    shutil.copy(stocked, tmp_path / "registry.db")
    return tmp_path / "registry.db"


def shell(command: str | bytes, registry: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line in the registry's folder, {plop} being the program."""
    line = command if isinstance(command, bytes) else command.encode()
    known = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONO")}
    done = subprocess.run(
        ["bash", "-c", line.replace(b"{plop}", PLOP.encode())],
        cwd=registry.parent,
        env={**known, "PLOP_REGISTRY": str(registry), "COLUMNS": "100", **environment},
        capture_output=True,
        timeout=120,
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


HUGE = "9" * 23
LONG = "a" * 300
REFUSED: dict[str, tuple[str | bytes, dict[str, str], str]] = {
    "a full disk": ("{plop} history > /dev/full", {}, "cannot write the output (No space left on device)"),
    "a full disk for the help": ("{plop} --help > /dev/full", {}, "cannot write the output (No space left on device)"),
    "a full disk for JSON": ("{plop} show latest --format json > /dev/full", {}, "cannot write the output"),
    "stdout closed": ("{plop} history >&-", {}, "standard output is closed; send it to a file"),
    "no docstrings": ("{plop} report", {"PYTHONOPTIMIZE": "2"}, "unset $PYTHONOPTIMIZE"),
    "an endless epoch": ("{plop} report", {"SOURCE_DATE_EPOCH": HUGE}, "$SOURCE_DATE_EPOCH is no number of seconds"),
    "an epoch of words": ("{plop} report", {"SOURCE_DATE_EPOCH": "now"}, "$SOURCE_DATE_EPOCH is no number of seconds"),
    "an output of a long name": (f"{{plop}} report -o {LONG}.html", {}, "(File name too long); give a path"),
    "an export of a long name": (f"{{plop}} export -o {LONG}.csv", {}, "(File name too long); give a path"),
    "a backup of a long name": (f"{{plop}} registry backup {LONG}", {}, "(File name too long); give a path"),
    "an output in no folder": ("{plop} report -o no/where.html", {}, "there is no folder no; make it first"),
    "a registry of nobody": ("{plop} history --registry ~nosuchuser/r.db", {}, "give the whole path"),
    "a model of nobody": ("{plop} score ~nosuchuser/m --task sample/math -n 2", {}, "~nosuchuser/m"),
    "a backup of nobody": ("{plop} registry backup '~nosuchuser/r.db'", {}, "give the whole path"),
}
USAGE: dict[str, tuple[str | bytes, str]] = {
    "many runs": (f"{{plop}} history -n {HUGE}", "is not from 1 to 2,147,483,647"),
    "many runs to export": (f"{{plop}} export -o x.csv -n {HUGE}", "is not from 1 to 2,147,483,647"),
    "many texts": (f"{{plop}} score demo --task sample/math -n {HUGE}", "is not from 0 to 2,147,483,647"),
    "a long text": (f"{{plop}} score demo --task sample/math --max-length {HUGE}", "is not from 0 to 2,147,483,647"),
    "a seed": (f"{{plop}} score demo --task sample/math --seed {HUGE}", "is not from 0 to 9,223,372,036,854,775,807"),
    "a rank": (f"{{plop}} recommend demo --task sample/math --rank {HUGE}", "is not from 1 to 2,147,483,647"),
    "digits without end": (f"{{plop}} history -n {'9' * 5000}", "is no whole number"),
    "no number": ("{plop} history -n ten", "'ten' is no whole number"),
    "bytes": (b"{plop} show $'caf\\xe9'", "'caf\\udce9' is no UTF-8 text"),
    "bytes in an option": (b"{plop} history --model $'\\xff*'", "is no UTF-8 text"),
    "bytes as a command": (b"{plop} $'\\xff'", "is no UTF-8 text"),
    "a name": ("{plop} score demo --task sample/math --name latest", "'latest' is the newest run"),
    "a name that a terminal obeys": ("{plop} score demo --task sample/math --name $'\\e[31m'", "control characters"),
    "two formats": ("{plop} score demo --task sample/math --json --format csv", "cannot both be meant"),
    "all of a table": ("{plop} history --full", "give --format json or jsonl"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said_in_one_line(case: str, registry: Path) -> None:
    command, environment, said = REFUSED[case]
    before = sorted(registry.parent.iterdir())
    code, out, err = shell(command, registry, **environment)
    assert (code, out) == (1, ""), err
    (line,) = err.splitlines()
    assert line.startswith("plop: ")
    assert said in line
    assert sorted(registry.parent.iterdir()) == before, "nothing is left half-written"


@pytest.mark.parametrize("case", USAGE)
def test_what_no_option_takes_is_a_mistake_of_usage(case: str, registry: Path) -> None:
    command, said = USAGE[case]
    code, out, err = shell(command, registry)
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
    assert said in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("version", "plop --version"),
        ("list", "plop history"),
        ("ls", "plop history"),
        ("delete", "plop rm"),
        ("remove", "plop rm"),
        ("help", "plop --help"),
        ("status", "plop registry"),
        ("diff", "plop compare"),
    ],
)
def test_commands_that_people_type_name_the_right_one(typed: str, meant: str, registry: Path) -> None:
    code, out, err = shell(f"{{plop}} {typed}", registry)
    assert (code, out) == (2, "")
    assert f"there is no command '{typed}'; did you mean '{meant}'?" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_stream_cannot_show_is_a_question_mark_and_json_stays_json(encoding: str, registry: Path) -> None:
    code, out, err = shell("{plop} show latest --map", registry, PYTHONIOENCODING=encoding)
    assert (code, err) == (0, "")
    assert re.search(r"\? *\|? *k_proj *\|? *1\.747", out)
    code, out, _ = shell("{plop} show latest --format json", registry, PYTHONIOENCODING=encoding)
    assert (code, json.loads(out)["skipped"][0]["name"]) == (0, "model.embed_tokens")


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-", "2>/dev/full"])
def test_other_streams_may_be_closed_or_full(closed: str, registry: Path) -> None:
    code, out, _ = shell(f"{{plop}} history -n 1 --format csv {closed}", registry)
    assert (code, len(out.splitlines())) == (0, 2)
    code, _, err = shell(f"{{plop}} rm latest {closed}", registry)
    assert code == 1, "nobody can be asked"
    assert "Traceback" not in err


def test_who_reads_may_stop(registry: Path) -> None:
    code, out, err = shell("set -o pipefail; {plop} history --format json --full | head -1", registry)
    assert out == "[\n"
    assert "Traceback" not in err
    assert code in (0, 1), "how click ends it"


def test_without_a_home_the_registry_is_said_and_not_made_here(registry: Path) -> None:
    """As in a container whose user is a mere number."""
    command = "{plop} history --registry '~/plop.db'"
    code, _, err = shell(command, registry, HOME="/nonexistent")
    assert (code, err) == (0, "note: no runs yet in /nonexistent/plop.db; plop score adds them\n")
    assert [path.name for path in registry.parent.iterdir()] == ["registry.db"]
