"""What a model is made of: from the registry, else told from its configuration, once for each revision."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import version

from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource
from plop_registry import Anatomy, Registry, RegistryError


def anatomy_of(source: ModelSource, loading: Loading, registry: Registry) -> Anatomy:
    """The anatomy of a model as found. Torch and transformers are imported where the registry does not know it yet.

    Names and shapes are those that the installed transformers gives the modules, so its version is asked for too.

    Raises PlopError where the configuration cannot be read.
    """
    built_by = version("transformers")
    known = None
    if source.revision:
        with suppress(RegistryError):  # what is damaged is told anew
            known = registry.anatomy(source.revision, built_by)
    if known is None:
        from plop_cli.models.loading import skeleton
        from plop_cli.network.anatomy import anatomy

        known = anatomy(skeleton(source, loading))
        if source.revision:
            with suppress(RegistryError):  # a registry that can be read only: the next command tells it anew
                registry.keep_anatomy(source.revision, built_by, known)
    return known
