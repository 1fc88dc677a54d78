"""What the registry knows of other methods' opinions on a stored run: of its activations, and of its model's weights.

kept(run, registry)["kappa"].values
wanted("eva", run, registry)               # PlopError with the command that makes it, where it is not kept
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from itertools import pairwise

from plop_cli.errors import PlopError
from plop_cli.method.estimates import default_count
from plop_cli.opinions.methods import METHODS, OF_ACTIVATIONS
from plop_cli.opinions.ordering import Ordering, of_run, ordering
from plop_cli.placement.refused import refused
from plop_cli.runs.rerun import at, command
from plop_cli.words import listed
from plop_registry import Opinion, Registry, Run


def kept(run: Run, registry: Registry) -> dict[str, Opinion]:
    """By method, in the order in which they are shown; NFN first. What another version of plop computed is no answer.

    Args: `run`, with its modules.
    """
    known = {opinion.method: opinion for opinion in of_run(run)} | registry.opinions.of_run(run.id)
    if not run.settings.get("adapter"):  # with one, the weights are no longer the revision's
        known |= kept_of_weights(run.model_revision, run.settings.get("quantization"), run.dtype, registry)
    return {key: known[key] for key, method in METHODS.items() if method.current(known.get(key))}


def kept_of_weights(revision: str, quantization: str | None, dtype: str, registry: Registry) -> dict[str, Opinion]:
    """By method, what the registry knows of the weights of a revision as they are in memory."""
    known = registry.opinions.of_weights(revision, precision(quantization, dtype))
    return {key: opinion for key, opinion in known.items() if key in METHODS and METHODS[key].current(opinion)}


def has_opinions(run: Run, registry: Registry) -> bool:
    """Whether what is said of a run's activations is kept with it."""
    known = registry.opinions.of_run(run.id)
    return all(METHODS[key].current(known.get(key)) for key in OF_ACTIVATIONS)


def precision(quantization: str | None, dtype: str) -> str:
    """What the registry calls the form that weights have in memory: "nf4 bfloat16"."""
    return " ".join(filter(None, (quantization, dtype)))


def wanted(method: str, run: Run, registry: Registry) -> Opinion:
    """What a method says of a run's model. Raises PlopError where that is not kept: what would make it."""
    if found := kept(run, registry).get(method):
        return found
    if METHODS[method].looks_at == "weights" and run.settings.get("adapter"):
        raise PlopError(
            f"{METHODS[method].name} is of the weights that adapters are put on, and run {run.id} "
            "has one merged in; leave the run out"
        )
    raise PlopError(lacking([method], run, registry))


def lacking(methods: Sequence[str], run: Run, registry: Registry) -> str:
    """That the registry does not have what these methods say, all of activations or all of weights; and the remedy."""
    words = shlex.split(command(run))
    words = _of_weights(words) if METHODS[methods[0]].looks_at == "weights" else [*words, "--opinions"]
    what = listed([METHODS[method].name for method in methods])
    verb, them = ("is", "it") if len(methods) == 1 else ("are", "them")
    remedy = f"{shlex.join([*words, *at(registry)])} puts {them} there"
    if run.model_label.startswith("checkpoint-"):
        remedy += "; where a training's callback scored weights in memory, score what it saved, and take that run"
    return f"{what} of {run.model_name} {verb} not in the registry; {remedy}"


def ordering_of(method: str, run: Run, registry: Registry) -> Ordering:
    """The order of types that a method comes to for a run's model, as `ordering_among` has it."""
    types = {module.type for module in run.modules}
    return ordering_among(types, wanted(method, run, registry), run.architecture)


def ordering_among(types: Collection[str], opinion: Opinion, architecture: str) -> Ordering:
    """The order of these types of a model, without those that PEFT refuses to adapt; as many chosen as PLoP takes."""
    may_be = {*types} - {*refused(architecture, types)}
    return ordering(opinion, count=default_count(len(may_be)), exclude={m.type for m in opinion.values} - may_be)


def _of_weights(words: list[str]) -> list[str]:
    """`plop score MODEL --task … --dtype …` → `plop opinions MODEL --dtype …`."""
    taken = [word for pair in pairwise(words) if pair[0] in ("--dtype", "--load-in") for word in pair]
    return ["plop", "opinions", words[2], *taken]
