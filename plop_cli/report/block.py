"""The `plop` block of a model card: what was found, of what, in YAML; and whether a run still says the same.

    print(block(run))                              # ```plop … ```
    differences(block_of(text, run, "README.md"), run)

A run says the same where it recommends the same types, of the same weights and texts, and no NFN is further away than
the digits of the block tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from plop_cli.errors import PlopError
from plop_cli.printable import short
from plop_cli.words import counted
from plop_registry import Run
from plop_registry.runs import finite

DIGITS = 3
"""After the point of an NFN, as in tables."""

_LAST = float(f"1e-{DIGITS}")

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*([^`]*?)\s*")


class Block(TypedDict):
    """What stands in the block; NFN by type, null where it is not finite."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]

    model: str
    revision: str
    task: str
    texts: str
    samples: int
    types: list[str]
    nfn: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)] | None]
    run: str
    plop: str


_BLOCK = TypeAdapter(Block)


def block(run: Run) -> str:
    """The block, fenced, so that it goes into Markdown as it is."""
    told = {
        "model": run.model_id,
        "revision": run.model_revision,
        "task": run.task_id,
        "texts": run.texts_hash,
        "samples": run.samples,
        "types": run.recommended,
        "nfn": {score.type: _rounded(score.nfn) for score in run.types},
        "run": run.id,
        "plop": run.plop_version,
    }
    text = yaml.safe_dump(told, sort_keys=False, default_flow_style=None, width=100)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}plop\n{text}{fence}"


def block_of(text: str, run: Run, name: str) -> Block:
    """The block of a card that is of the run's model and task.

    Args: `name` is what the card is called in errors.

    Raises PlopError where there is none, where there are several, and where one is broken.
    """
    found = [_read(body, f"{name}, line {line}") for line, body in _fenced(text)]
    fitting = [each for each in found if (each["model"], each["task"]) == (run.model_id, run.task_id)]
    what = f"{short(run.model_id)} on {short(run.task_id)}"
    if not found:
        raise PlopError(f"{name} has no plop block; plop report {run.id[:8]} --format md writes one")
    if len(fitting) > 1:
        raise PlopError(f"{name} has {len(fitting)} plop blocks of {what}; leave one of them")
    if not fitting:
        has = ", ".join(f"{short(each['model'])} on {short(each['task'])}" for each in found[:3])
        blocks = "plop block is" if len(found) == 1 else f"{counted(len(found), 'plop block')} are"
        raise PlopError(f"{name}'s {blocks} of {has}, and run {run.id[:8]} is of {what}; give a run of the card's")
    return fitting[0]


def differences(card: Block, run: Run) -> list[dict[str, Any]]:
    """What the card says and the run does not: `field`, `card` and `run`, None where one of them lacks it."""
    here: dict[str, Any] = {
        "revision": run.model_revision,
        "texts": run.texts_hash,
        "samples": run.samples,
        "types": sorted(run.recommended),
    }
    there: dict[str, Any] = {**card, "types": sorted(card["types"])}
    rows = [{"field": name, "card": there[name], "run": here[name]} for name in here if there[name] != here[name]]
    nfn = {score.type: _rounded(score.nfn) for score in run.types}
    return rows + [
        {"field": f"nfn.{name}", "card": card["nfn"].get(name), "run": nfn.get(name)}
        for name in dict.fromkeys([*card["nfn"], *nfn])
        if name not in nfn or name not in card["nfn"] or not _same(card["nfn"][name], nfn[name])
    ]


def _same(one: float | None, other: float | None) -> bool:
    """Up to one in the last digit: rounding may have gone the other way."""
    if one is None or other is None:
        return one is other
    return round(abs(one - other), DIGITS) <= _LAST


def _rounded(nfn: float) -> float | None:
    value = finite(nfn)
    return None if value is None else round(value, DIGITS)


def _fenced(text: str) -> Iterator[tuple[int, str | None]]:
    """The lines at which fences with the word plop begin, and what is in them; None where one does not end.

    What another fence holds is none: a page may show what a block looks like.
    """
    opened, word, start, body = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.fullmatch(line)
        if opened:
            if fence and fence[1].startswith(opened) and not fence[2]:
                if word == "plop":
                    yield start, "\n".join(body)
                opened = ""
            body.append(line)
        elif fence:
            opened, word, start, body = fence[1], fence[2].partition(" ")[0], number, []
    if opened and word == "plop":
        yield start, None


def _read(body: str | None, where: str) -> Block:
    if body is None:
        raise PlopError(f"{where}: the plop block does not end; close it with the same fence")
    try:
        return _BLOCK.validate_python(yaml.safe_load(body))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}"
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:150]
    raise PlopError(f"{where}: the plop block is broken ({short(reason)}); plop report RUN --format md writes it anew")
