"""Does a config adapt what its author thinks?

    checked = check("adapter_config.json", "meta-llama/Llama-3.1-8B")
    checked.findings           # errors, warnings and notes, each with its code and a sentence
    checked.adapted            # the modules that really get an adapter

No weights are needed: a config.json is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plop_cli.checking import findings as kinds
from plop_cli.checking.body import Body, body_of
from plop_cli.checking.matching import excluded, hits_of
from plop_cli.checking.read import read
from plop_cli.checking.trial import BY_PEFT, Trial, tried
from plop_cli.checking.wanted import ALL, Finding, Wanted
from plop_cli.checking.weights import of_weights
from plop_cli.errors import PlopError, no_such
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource, identify
from plop_cli.placement.targets import hits

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Row:
    """A target: the modules that it hits, and the blocks that they are in."""

    target: str
    modules: tuple[str, ...]
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Checked:
    """What a config does to a model: `parameters` are trained, of `of` in all; `tried` if PEFT itself was asked."""

    source: str
    format: str
    model: str
    architecture: str
    rank: int
    rows: tuple[Row, ...]
    adapted: tuple[str, ...]
    parameters: int
    of: int
    tried: bool
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether it will fail, or adapts nothing."""
        return any(finding.level == "error" for finding in self.findings)

    @property
    def warned(self) -> bool:
        """Whether something is likely not meant."""
        return any(finding.level == "warning" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (`plop check --format json`)."""
        return {
            "config": self.source,
            "format": self.format,
            "model": self.model,
            "architecture": self.architecture,
            "rank": self.rank,
            "targets": [
                {"target": row.target, "modules": len(row.modules), "layers": list(row.layers)} for row in self.rows
            ],
            "adapted": list(self.adapted),
            "trainable_parameters": self.parameters,
            "share": self.parameters / self.of,
            "tried_with_peft": self.tried,
            "findings": [{"level": f.level, "code": f.code, "text": f.text} for f in self.findings],
        }


def check(
    config: Any, model: str | Path | nn.Module, *, trainer: str | None = None, serve: Collection[str] = ()
) -> Checked:
    """What a trainer's config does to a model (`plop check CONFIG --model MODEL`).

    Args:
        config: a path (a config of any trainer, the folder of an adapter, a file of flags, a Python file), its keys as
            a dictionary, or PEFT's own configuration.
        model: the model, or what finds it: a hub id, a folder with a config.json, a .gguf file. It is left as it is.
        trainer: whose config it is, where that should not be found out.
        serve: "vllm", "sglang": whether they would load the adapter.

    Raises PlopError where the config or the model cannot be read, or a Python file holds several configurations.
    """
    wanted = read(config, trainer)
    if len(wanted) > 1:
        raise PlopError(f"{wanted[0].source} is one of {len(wanted)} configurations there; give one as a dictionary")
    named = isinstance(model, str | Path)
    body = body_of(model_of(model) if isinstance(model, str | Path) else model)
    return checked(wanted[0], body, name=str(model) if named else body.architecture, serve=serve)


def model_of(model: str | Path, loading: Loading = Loading()) -> nn.Module:
    """The model without weights; of a folder its config.json is enough."""
    from plop_cli.models.loading import skeleton

    folder = Path(model).expanduser()
    if folder.name == "config.json":
        folder = folder.parent
    if (folder / "config.json").is_file():
        return skeleton(ModelSource(id=folder.resolve().name, label="", revision="", folder=folder), loading)
    return skeleton(identify(str(model), loading), loading)


def checked(wanted: Wanted, body: Body, *, name: str, serve: Collection[str] = ()) -> Checked:
    """What is asked for, held against a body."""
    for server in serve:
        if server not in kinds.SERVERS:
            raise no_such("server", server, kinds.SERVERS)
    found: dict[str, list[str]] = {}
    trial, adapted, parameters = None, list[str](), 0
    findings = [*wanted.findings]
    try:
        found = reached(wanted, body)
    except PlopError as error:  # of a regular expression
        findings.append(Finding("error", "regex", str(error)))
    else:
        trial = tried(wanted, body)
        if trial and trial.adapted and ALL in found:  # what is all, the trainer says: not a classifier's head
            found = {ALL: list(trial.adapted)}
        adapted, parameters = _adapted(wanted, body, found, trial)
        findings += [
            *kinds.refusals(wanted, body, found, trial),
            *kinds.lost(body, found, trial),
            *kinds.dead(wanted, body, found, adapted),
            *kinds.uneven(body, found, adapted),
            *kinds.unmeant(body, found, adapted),
            *kinds.frozen(wanted, body, adapted),
            *kinds.tasks(wanted, body),
            *kinds.serving(wanted, adapted, serve),
            *_of_adapter(wanted, body),
        ]
        if trial is None and wanted.format in BY_PEFT:
            findings.append(Finding("note", "not-tried", "PEFT is not installed here, so that it was not asked itself"))
    if not adapted and not any(finding.level == "error" for finding in findings):
        findings.append(Finding("error", "nothing", "nothing is adapted"))
    return Checked(
        source=wanted.source,
        format=wanted.format,
        model=name,
        architecture=body.architecture,
        rank=wanted.rank,
        rows=tuple(_row(target, names, body) for target, names in found.items()),
        adapted=tuple(adapted),
        parameters=parameters,
        of=body.parameters,
        tried=trial is not None,
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.level))),
    )


_ORDER = ("error", "warning", "note")


def reached(wanted: Wanted, body: Body) -> dict[str, list[str]]:
    """The modules that each target hits, without those that are excluded; PlopError for a bad regular expression."""
    out = excluded(wanted, body)
    return {target: [name for name in names if name not in out] for target, names in hits_of(wanted, body).items()}


def _row(target: str, names: Sequence[str], body: Body) -> Row:
    layers = {number for numbers in body.layers(names).values() for number in numbers}
    return Row(target, tuple(names), tuple(sorted(layers)))


def _adapted(wanted: Wanted, body: Body, found: kinds.Hits, trial: Trial | None) -> tuple[list[str], int]:
    """As PEFT does it where it was asked; else by the rule, which counts r·(in + out) for each."""
    if trial:
        return list(trial.adapted), trial.parameters
    reached = {name for names in found.values() for name in names} & set(body.linear)
    names = [name for name in body.names if name in reached]
    names += hits(wanted.parameters, body.stacks)
    sizes = {module.place: 0 for module in body.modules}
    for module in body.modules:
        sizes[module.place] += module.in_features + module.out_features
    return names, wanted.rank * sum(sizes.get(name, 0) for name in names)


def _of_adapter(wanted: Wanted, body: Body) -> Sequence[Finding]:
    path = Path(wanted.source)
    return list(of_weights(path.parent, body)) if path.name == "adapter_config.json" else ()
