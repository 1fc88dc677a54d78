"""The trainers' own packages, in a folder beside the environment: `make trainers` installs them there.

Their dependencies would take hours and contradict each other, so each comes alone, and what it is held to is what can
be imported of it, or read. `python tests/support/trainers.py > docs/trainers.md` writes the page.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".trainers"
OLD_PEFT = HOME / "peft-0.18"


class Held(NamedTuple):
    """How the export of a format is held to its trainer: by which package, by what of it, and by which tests."""

    package: str
    by: str
    tests: tuple[str, ...]
    note: str = ""


_READ = "test_every_flag_is_in_the_source_of_the_trainer"
_RUN = "test_the_trainer_s_own_code_reads_exactly_the_placement"
_PEFT = "test_real_peft_adapts_exactly_the_listed_modules_with_the_predicted_parameters"
_MODEL = "test_the_trainer_s_own_code_adapts_exactly_the_placement"
HELD = {
    "peft": Held(
        "peft", "`PeftConfig`, `get_peft_model` on a model; 0.18.0 too", (_PEFT, "test_the_oldest_peft_takes_it_too")
    ),
    "python": Held("peft", "the code is run", (_PEFT,)),
    "axolotl": Held("axolotl", "its schema, and PEFT with what it hands on", (_RUN,)),
    "llamafactory": Held(
        "llamafactory", "its dataclass, and PEFT with what it hands on", (_RUN,), "no experts: it has no word for them"
    ),
    "unsloth": Held("unsloth", "the signature in its source, and PEFT", (_READ,)),
    "torchtune": Held("torchtune", "the signature in its source", (_READ,), "no longer developed"),
    "trl": Held(
        "trl", "`HfArgumentParser`, `get_peft_config`, PEFT", ("test_trl_s_own_parser_and_peft_read_the_flags_so",)
    ),
    "ms-swift": Held("ms-swift", "its dataclass out of its source in `HfArgumentParser`, and PEFT", (_READ,)),
    "verl": Held("verl", "Hydra's parser, the dataclass in its source, and PEFT", (_RUN, _READ), "the FSDP engine"),
    "mlx-lm": Held("mlx-lm", "`linear_to_lora_layers` on its own models", (_MODEL,), "17 families, no experts"),
    "nemo-automodel": Held(
        "nemo-automodel", "`apply_lora_to_linear_modules` on a model", (_MODEL,), "no experts, no Conv1D"
    ),
}


def versions() -> dict[str, str]:
    """The release of each package that the tests install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = dict(pin.split("==") for pin in project["dependency-groups"]["trainers"])
    from importlib.metadata import version

    return pins | {name: version(name) for name in ("peft", "trl")}


def needed() -> None:
    """Skip where the packages are not installed; that is a failure where CI is set."""
    if not HOME.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no trainers here (make trainers)")


def read(format: str, *, home: Path = HOME, **given: Any) -> Any:
    """What the trainer's own code makes of an export."""
    needed()
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("trainer_readers.py"), format],
        input=json.dumps(given),
        env=os.environ | {"PYTHONPATH": str(home), "DISABLE_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def source(path: str) -> ast.Module:
    """A file of a trainer, parsed."""
    needed()
    return ast.parse((HOME / path).read_text())


def named(tree: ast.AST, name: str) -> Any:
    """The class or function of that name."""
    return next(node for node in ast.walk(tree) if getattr(node, "name", None) == name)


def parameters(function: ast.FunctionDef) -> set[str]:
    """The names of a function's parameters."""
    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


def fields(of: ast.ClassDef) -> set[str]:
    """The names of a dataclass's fields."""
    return {node.target.id for node in of.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def document() -> str:
    """docs/trainers.md."""
    known = versions()
    rows = [
        f"| `{format}` | {held.package} {known[held.package]} | {held.by} | {held.note} |"
        for format, held in HELD.items()
    ]
    return "\n".join([_HEAD, *rows]) + "\n"


_HEAD = """\
# Trainers

What `plop recommend --format FORMAT` writes is held against the trainer's own code: that it takes the file, and that it
adapts exactly the modules of the placement. `make trainers` installs the packages that the tests need beside the
environment, without their dependencies; where a package cannot be imported so, its signatures are read from its source.

Made by `python tests/support/trainers.py > docs/trainers.md`.

| format | release | held by | not |
|---|---|---|---|"""


if __name__ == "__main__":
    sys.stdout.write(document())
