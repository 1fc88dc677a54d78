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
from plop_cli.opinions.beside import mean_of
from plop_cli.opinions.methods import METHODS, OF_WEIGHTS
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
        raise PlopError("second opinions are of the weights that adapters are put on; leave out --adapter")
    loading, why = resolve_dtype(replace(loading, device=resolve_device(loading.device)), source)
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


def of_runs(
    runs: Sequence[Run], weights: Mapping[str, Opinion], source: ModelSource, registry: Registry
) -> list[Opinion]:
    """What is said of a model on the tasks of these runs, in the order in which it is shown; NFN first.

    Args: `runs` of `source`, with their modules; `weights` is what `of_weights` gives.

    Raises PlopError for a run of other weights.
    """
    for run in runs:
        if run.model_revision != source.revision:
            raise PlopError(
                f"run {run.id} is of revision {run.model_revision[:12]}, and {source} has {source.revision[:12]}; "
                "second opinions are of the same weights: score it again, or leave out --opinions"
            )
    known = [{**kept(run, registry), **weights} for run in runs]
    return [mean_of([each[key] for each in known]) for key in METHODS if all(key in each for each in known)]
