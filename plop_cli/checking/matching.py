"""Which modules each target hits, by the rule of the trainer that reads it.

Regular expressions are the user's, and one may run for ever: they are matched in another process, which has a deadline.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from plop_cli.checking.body import Body
from plop_cli.checking.wanted import ALL, Wanted
from plop_cli.errors import PlopError
from plop_cli.placement.targets import hits
from plop_cli.placement.trainers.nemo_automodel import matches

DEADLINE = 5.0
"""Seconds that a regular expression may take over all module names."""

_MATCH = """\
import json, re, sys
pattern, names = json.load(sys.stdin)
json.dump([name for name in names if re.fullmatch(pattern, name)], sys.stdout)
"""


def hits_of(wanted: Wanted, body: Body) -> dict[str, list[str]]:
    """The modules that each target hits, before `exclude_modules` and the like; a regex is one target.

    Raises PlopError for a regular expression that does not compile, or takes longer than `DEADLINE`.
    """
    if wanted.targets == ALL or (isinstance(wanted.targets, str) and wanted.targets.lower() == ALL):
        return {ALL: all_linear(wanted, body)}
    if isinstance(wanted.targets, str):
        return {wanted.targets: matched(wanted.targets, body.names)}
    if wanted.format == "nemo-automodel":
        return {target: _linear(matches([target], body.names), body) for target in wanted.targets}
    if wanted.format == "mlx-lm":
        inside = {name: re.sub(r"^.*?\.\d+\.", "", name) for name in body.names if re.search(r"\.\d+\.", name)}
        return {target: [name for name, path in inside.items() if path == target] for target in wanted.targets}
    return {target: hits([target], body.names) for target in wanted.targets}


def all_linear(wanted: Wanted, body: Body) -> list[str]:
    """What the trainer takes for all linear modules.

    PEFT takes every one but the output head. LLaMA-Factory and axolotl take the last parts of their paths for targets.
    ms-swift leaves out what sees and hears; mlx-lm takes the blocks.
    """
    linear = [name for name in body.linear if name != body.head]
    if wanted.format in ("llamafactory", "axolotl"):
        return hits({name.rpartition(".")[2] for name in linear}, body.names)
    if wanted.format == "ms-swift":
        return [name for name in linear if "tower" not in body.others.get(name, "")]
    if wanted.format == "mlx-lm":
        return [name for name in linear if re.search(r"\.\d+\.", name)]
    return linear


def excluded(wanted: Wanted, body: Body) -> set[str]:
    """The modules that `exclude_modules`, `modules_to_save` and `layers_to_transform` keep from being adapted."""
    out: set[str] = set()
    if wanted.exclude:
        exclude = wanted.exclude
        out |= set(matched(exclude, body.names) if isinstance(exclude, str) else hits(exclude, body.names))
    for saved in wanted.modules_to_save:
        out |= {name for name in body.names if f".{saved}." in f".{name}."}
    if wanted.layers is not None:
        last = max((number for numbers in body.layers(body.names).values() for number in numbers), default=0)
        out |= {name for name in body.names if not _in_layers(name, wanted, last + 1)}
    return out


def matched(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that fit the whole of a regular expression; PlopError where that is none, or runs for ever."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PlopError(f"{pattern!r} is no regular expression ({error}); mend it, or give a list of names") from error
    try:
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCH],
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise PlopError(
            f"{pattern!r} takes longer than {DEADLINE:.0f} s over {len(names)} module names; write it without "
            "repetitions inside of repetitions"
        ) from None
    found: list[str] = json.loads(ran.stdout)
    return found


def _linear(names: Sequence[str], body: Body) -> list[str]:
    known = set(body.linear)
    return [name for name in names if name in known]


def _in_layers(name: str, wanted: Wanted, blocks: int) -> bool:
    """PEFT's `layers_to_transform`: the first number with two parts before it. mlx-lm counts from the last block."""
    pattern = "|".join(wanted.layers_pattern)
    found = re.match(rf"(?:^|.*?\.)(?:{pattern})\.(\d+)\." if pattern else r".*?\.[^.]*\.(\d+)\.", f"{name}.")
    if found is None or wanted.layers is None:
        return False
    return int(found[1]) >= blocks + wanted.layers[0] if wanted.format == "mlx-lm" else int(found[1]) in wanted.layers
