"""What a model is made of: from the registry, else told from its configuration, once for each revision."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import version

from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource
from plop_cli.progress import says
from plop_registry import Anatomy, Registry, RegistryError

_BUILDER = "transformers"
"""Names and shapes are those that the installed version of it gives the modules."""


def anatomy_of(source: ModelSource, loading: Loading, registry: Registry) -> Anatomy:
    """The anatomy of a model as found. Torch and transformers are imported where the registry does not know it yet.

    Raises PlopError where the configuration cannot be read.
    """
    if known := _known(source, registry):
        return known
    says("importing torch and transformers")
    from plop_cli.models.loading import skeleton
    from plop_cli.network.anatomy import anatomy

    return anatomy(skeleton(source, loading))


def keep(source: ModelSource, anatomy: Anatomy, registry: Registry) -> None:
    """Store the anatomy of a model, unless it is known. A registry that can be read only goes without."""
    if source.revision and _known(source, registry) is None:
        with suppress(RegistryError):
            registry.keep_anatomy(source.revision, version(_BUILDER), anatomy)


def _known(source: ModelSource, registry: Registry) -> Anatomy | None:
    with suppress(RegistryError):  # a damaged one is told anew
        return registry.anatomy(source.revision, version(_BUILDER)) if source.revision else None
    return None
