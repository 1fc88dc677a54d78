"""What other methods say of a model's weights: from the registry, else computed and stored, once for each revision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plop_cli.models.devices import resolve_device, resolve_dtype
from plop_cli.models.fingerprints import check_unchanged
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource
from plop_cli.opinions.methods import METHODS, OF_WEIGHTS
from plop_cli.progress import says
from plop_registry import Opinion, Registry, RegistryError


def opinions_of(
    source: ModelSource,
    loading: Loading,
    registry: Registry,
    *,
    anew: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Opinion]:
    """By method, what is said of the weights of a model as found. Torch is imported where the registry lacks some.

    Args: `anew` computes what is stored already; `note` is told what a user would not guess.

    Raises PlopError where the weights cannot be loaded.
    """
    loading, why = resolve_dtype(replace(loading, device=resolve_device(loading.device)), source)
    if why:
        note(why)
    known = registry.opinions.of_weights(source.revision, _precision(source, loading))
    if not anew and all(METHODS[key].current(known.get(key)) for key in OF_WEIGHTS):
        return {key: known[key] for key in OF_WEIGHTS}
    says("importing torch and transformers")
    from plop_cli.models.loading import load
    from plop_cli.opinions.weights import of_weights

    model, _ = load(source, loading)
    opinions = of_weights(model)
    check_unchanged(source.stamps)
    try:
        registry.opinions.keep_of_weights(source.revision, _precision(source, loading), opinions.values())
    except RegistryError as error:  # it can be read only, say
        note(f"the opinions are not stored: {error}")
    return opinions


def _precision(source: ModelSource, loading: Loading) -> str:
    return " ".join(filter(None, (source.quantization, loading.dtype)))
