"""What other methods say: of a model's weights, from the registry or computed now; and beside a choice of PLoP's.

of_weights(source, loading, registry)["kappa"].values
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from plop_cli.errors import PlopError
from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.fingerprints import check_unchanged
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource
from plop_cli.opinions.beside import Said, beside
from plop_cli.opinions.methods import ADAPTED, OF_WEIGHTS
from plop_cli.placement.refused import refused
from plop_cli.progress import says
from plop_cli.runs.kept import kept, kept_of_weights, precision
from plop_registry import Opinion, Registry, RegistryError, Run

if TYPE_CHECKING:
    from torch import nn


def of_weights(
    source: ModelSource,
    loading: Loading,
    registry: Registry,
    *,
    model: nn.Module | None = None,
    anew: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Opinion]:
    """By method, what is said of the weights of a model as found. Torch is imported where the registry lacks some.

    Args: `model`, where it is in memory; `anew` computes what is stored; `note` is told what nobody would guess.

    Raises PlopError where the weights cannot be loaded, or there is nothing to look at.
    """
    if source.adapter_hash:
        raise PlopError(ADAPTED)
    loading, why = _resolved(source, loading)
    if why:
        note(why)
    known = {} if anew else kept_of_weights(source.revision, source.quantization, loading.dtype, registry)
    if all(key in known for key in OF_WEIGHTS):
        return {key: known[key] for key in OF_WEIGHTS}
    says("importing torch and transformers")
    from plop_cli.models.loading import load
    from plop_cli.opinions import weights

    opinions = weights.of_weights(model or load(source, loading)[0])
    check_unchanged(source.stamps)
    try:
        registry.opinions.keep_of_weights(
            source.revision, precision(source.quantization, loading.dtype), opinions.values()
        )
    except RegistryError as error:  # it can be read only, say
        note(f"the opinions are not stored: {error}")
    return opinions


def _resolved(source: ModelSource, loading: Loading) -> tuple[Loading, str | None]:
    """The same with its device and dtype settled, and what to say of that."""
    return resolve_dtype(replace(loading, device=resolve_device(loading.device)), source)


def said(found: Mapping[str, Opinion]) -> tuple[list[Said], list[str]]:
    """What `of_weights` found, with each method's order; and the types that PEFT refuses to adapt, which it lacks."""
    opinions = list(found.values())
    types = {module.type for each in opinions for module in each.values}
    left_out = refused(opinions[0].settings.get("architecture", ""), sorted(types))
    return beside(opinions, exclude=left_out), left_out


def of_runs(
    runs: Sequence[Run], weights: Mapping[str, Opinion], source: ModelSource, loading: Loading, registry: Registry
) -> list[list[Opinion]]:
    """What is said of a model on the task of each of these runs, as `beside` takes it.

    Args: `runs` of `source`, with their modules; `weights` is what `of_weights` gives for `source` and `loading`.

    Raises PlopError for a run of other weights, or of the same in another form.
    """
    form = precision(source.quantization, _resolved(source, loading)[0].dtype)
    for run in runs:
        if run.model_revision != source.revision:
            raise PlopError(
                f"run {run.id} is of revision {run.model_revision[:12]}, and {source} has {source.revision[:12]}; "
                "second opinions are of the same weights: score it again, or leave out --opinions"
            )
        if (own := precision(run.settings.get("quantization"), run.dtype)) != form:
            raise PlopError(
                f"run {run.id} is of {own} weights, and {source} is loaded as {form}; "
                "give the run's --dtype and --load-in, or leave out --opinions"
            )
    return [[*{**kept(run, registry), **weights}.values()] for run in runs]
