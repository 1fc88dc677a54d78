"""Step 3 of PLoP: scores → a placement.

recommend(scores)                                          # the 3 lowest types at rank 16
recommend([math, code], match="mlp:8", model=model)        # the mean over two tasks, as large as MLP at rank 8
recommend(targets=["v_proj", "o_proj"], model=model)       # your own choice, to be counted and exported
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, Protocol

from plop_cli.errors import PlopError, no_such
from plop_cli.method.choice import Choice, Rule, Samples, choose
from plop_cli.method.floor import LEAST_SAMPLES
from plop_cli.names import place_of
from plop_cli.placement.placement import Placement
from plop_cli.placement.ranks import Linear, Rounding, cost, rank_of, strategies
from plop_cli.placement.refused import REASON, refused
from plop_registry import Anatomy, ModuleScore, Run, SampleMatrix, Skipped

if TYPE_CHECKING:
    from torch import nn


class Scores(Protocol):
    """What `recommend` needs to know of one task: `NFNScores`, or a stored run with its matrix (`StoredScores`)."""

    @property
    def model(self) -> Mapping[str, str]: ...
    @property
    def modules(self) -> Sequence[ModuleScore]: ...
    @property
    def skipped(self) -> Sequence[Skipped]: ...
    @property
    def matrix(self) -> SampleMatrix: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class StoredScores:
    """A run of the registry, with its modules, and its matrix."""

    run: Run
    matrix: SampleMatrix

    @property
    def model(self) -> dict[str, str]:
        return {"id": self.run.model_name, "architecture": self.run.architecture}

    @property
    def task(self) -> str:
        return self.run.task_name

    @property
    def modules(self) -> tuple[ModuleScore, ...]:
        return self.run.modules

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return self.run.skipped

    @property
    def settings(self) -> dict[str, Any]:
        return self.run.settings


def recommend(
    scores: Scores | Sequence[Scores] = (),
    *,
    types: int | None = None,
    below: float | None = None,
    invert: bool = False,
    targets: Sequence[str] = (),
    exclude: Collection[str] = (),
    by: Literal["type", "module"] = "type",
    rank: int | None = None,
    match: str | None = None,
    budget: int | None = None,
    rounding: Rounding = "down",
    alpha: int | None = None,
    rslora: bool = False,
    model: nn.Module | Anatomy | None = None,
) -> Placement:
    """Choose the types with the lowest NFN (paper, Step 3) and the rank of their adapters.

    Args:
        scores: of one task, or of several: then the mean over tasks counts.
        types: how many (default: the 3 lowest of 6 or more, else half of them).
        below: all types under this NFN, instead of a number of them.
        invert: the highest, not the lowest (PLoP⁻¹).
        targets: your own choice of types; needs no scores where there is a `model`.
        exclude: types that are out of the question.
        by: "module" (experimental) chooses single modules, as many as the chosen types would hold.
        rank, match, budget: the rank (default 16); or "mlp:8", as many parameters as MLP has at rank 8, rounded as
            `rounding` says; or the largest rank with at most so many parameters.
        alpha: default 2r, as in the paper.
        model: the model, or its `anatomy`, for `share` and for the strategies Attn and MLP. The scores must be its own.

    Raises PlopError for what does not exist, does not fit together, or comes to nothing.
    """
    tasks = list(scores) if isinstance(scores, Sequence) else [scores]
    body = _anatomy(model)
    modules = _modules(tasks, body)
    known = {module.type for module in modules}
    architecture = body.architecture if body else tasks[0].model["architecture"] if tasks else ""
    untrainable = refused(architecture, sorted(known))
    for name in targets:
        if name not in known:
            raise no_such("module type", name, known)
        if name in untrainable:
            raise PlopError(f"{name} of a {architecture} cannot be a target: {REASON}; leave it out")
    rule = rule_of(sorted(known), types=types, below=below, invert=invert, exclude=exclude, architecture=architecture)
    of_types, by_task = _choose(tasks, rule, "type") if tasks else (None, {})
    choice = of_types
    if targets:
        nfn = of_types.nfn if of_types else dict.fromkeys(sorted(known - set(untrainable)), math.nan)
        choice, by_task = Choice(nfn, sorted(set(targets) - rule.exclude)), {}
    elif of_types and by == "module":
        held = len({module.place for module in modules if module.type in of_types.chosen})
        left_out = frozenset(module.place for module in modules if module.type in rule.exclude)
        choice, by_task = _choose(tasks, replace(rule, count=held, exclude=left_out), "module")
    if choice is None or not choice.chosen:
        raise PlopError("there is nothing to choose by; give scores, or targets of your own")

    picked = set(choice.chosen)
    chosen = tuple(module for module in modules if module.type in picked or module.place in picked)
    options = strategies(
        [module for module in modules if module.type not in untrainable],
        ranked=list(of_types.nfn) if of_types else (),
        count=len(of_types.chosen) if of_types else 0,
        attention=body.attention if body else (),
        feed_forward=body.feed_forward if body else (),
    )
    stacks = tuple(dict.fromkeys(module.place for module in modules if module.place != module.name))
    of_rank = rank_of(cost(chosen), options, rank=rank, match=match, budget=budget, rounding=rounding)
    return Placement(
        model=tasks[0].model["id"] if tasks else "",
        architecture=architecture,
        tasks=tuple(_names(tasks)),
        choice=choice,
        by_task=by_task,
        left_out=_left_out(tasks, untrainable),
        modules=chosen,
        names=body.names if body else tuple(name for name in _places(tasks[0]) if name not in stacks),
        stacks=stacks,
        rank=of_rank,
        alpha=2 * of_rank if alpha is None else alpha,
        rslora=rslora,
        parameters=body.parameters if body else None,
        strategies=options,
    )


def _anatomy(model: nn.Module | Anatomy | None) -> Anatomy | None:
    if model is None:
        return None
    if isinstance(model, Anatomy):
        return model
    from plop_cli.network.anatomy import anatomy

    return anatomy(model)


def _modules(tasks: Sequence[Scores], body: Anatomy | None) -> list[Linear]:
    """The linear modules: the model's own, or else those that were scored; PlopError where scores are of others."""
    scored = [[Linear(m.name, m.type, m.in_features, m.out_features) for m in task.modules] for task in tasks]
    if body is None:
        known = scored[0] if scored else []
        left_out = {skipped.name for task in tasks[:1] for skipped in task.skipped}
        if idle := sorted(left_out & {module.place for module in known}):
            raise PlopError(f"not all experts of {idle[0]} have a score, so what they take is unknown; give the model")
        return known
    own = [Linear(*shape) for shape in body.modules]
    for task, modules in zip(tasks, scored, strict=True):
        if other := set(modules) - set(own):
            name, _, width, height = min(other)
            raise PlopError(
                f"the scores are of another model ({task.model['id']}, {task.model['architecture']}): this "
                f"{body.architecture} has no {name} of {height} × {width}; give the model that was scored"
            )
    return own


def rule_of(
    known: Sequence[str],
    *,
    types: int | None = None,
    below: float | None = None,
    invert: bool = False,
    exclude: Collection[str] = (),
    architecture: str = "",
) -> Rule:
    """The rule that these arguments of `recommend` make for the `known` types; PlopError where they make none.

    What PEFT does not adapt in a model of this class is out of the question.
    """
    for name in exclude:
        if name not in known:
            raise no_such("module type", name, known)
    exclude = {*exclude, *refused(architecture, known)}
    left = [name for name in known if name not in exclude]
    if below is not None and (types is not None or invert):
        raise PlopError("--below chooses all types under a threshold; leave out --types and --invert")
    if types is not None and not 1 <= types <= len(left):
        raise PlopError(f"--types is {types}, and there are {len(left)} to choose from ({', '.join(left)})")
    if not left:
        raise PlopError("--exclude leaves no type to choose from; leave one out")
    return Rule(types, below, invert, frozenset(exclude))


def _choose(tasks: Sequence[Scores], rule: Rule, by: Literal["type", "module"]) -> tuple[Choice, dict[str, Choice]]:
    """What all tasks choose together, and where they are several, each alone."""
    samples = [
        Samples.of(task.matrix, [module.type if by == "type" else place_of(module.name) for module in task.modules])
        for task in tasks
    ]
    fewest = min(len(one.sums) for one in samples)
    if fewest < LEAST_SAMPLES:
        raise PlopError(f"scores from {fewest} texts are too few to choose by; score at least {LEAST_SAMPLES}")
    if any(one.nfn.keys() != samples[0].nfn.keys() for one in samples):
        raise PlopError(f"the tasks have no scores of the same {by}s; score them with the same model and plop")
    seed = int(tasks[0].settings.get("seed", 0))
    choice = choose(samples, rule, seed=seed)
    if not choice.chosen:
        lowest, nfn = next(iter(choice.nfn.items()))
        raise PlopError(f"no {by} has an NFN below {rule.below}; the lowest is {lowest} with {nfn:.3f}")
    alone = zip(_names(tasks), samples, strict=True) if len(tasks) > 1 else ()
    return choice, {name: choose([one], rule, seed=seed) for name, one in alone}


def _left_out(tasks: Sequence[Scores], types: Sequence[str]) -> dict[str, float]:
    """NFN of these types, as far as they are scored: the mean over tasks."""
    samples = [Samples.of(task.matrix, [module.type for module in task.modules]).nfn for task in tasks]
    return {kind: fmean(one.get(kind, math.nan) for one in samples) if samples else math.nan for kind in types}


def _places(task: Scores) -> list[str]:
    """All that the scores know of, scored or not."""
    names = (*(module.name for module in task.modules), *(skipped.name for skipped in task.skipped))
    return list(dict.fromkeys(map(place_of, names)))


def _names(tasks: Sequence[Scores]) -> list[str]:
    return [getattr(task, "task", f"task {number}") for number, task in enumerate(tasks, 1)]
