"""Under which name a registry knows weights that were hashed in another way when they were scored."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from plop_cli.models.fingerprints import SUFFIX, formerly
from plop_cli.models.options import Loading
from plop_cli.models.source import ModelSource, identify
from plop_cli.processes import rank
from plop_registry import Former, Registry, RegistryError


def names_of(model: str, source: ModelSource, loading: Loading, registry: Registry) -> tuple[ModelSource, ...]:
    """`source`, as MODEL was found, under each name of its revision; the one first that the registry goes on with.

    That is the former name where runs have it, so that the same weights are one revision in one registry. It is
    computed once, and only if runs of a model of this id have a former name at all.
    """
    if not source.revision.endswith(SUFFIX) or not (old := registry.revisions.old(source.id)):
        return (source,)
    former = registry.revisions.former(source.revision)
    if former is None:
        with formerly():
            again = identify(model, loading)
        former = Former(again.revision, again.adapter_hash)
        if former.revision in old and rank() == 0:
            with suppress(RegistryError):  # it can be read only: computed again next time
                registry.revisions.keep(source.revision, former)
    if former.revision not in old:
        return (source,)
    return replace(source, revision=former.revision, adapter_hash=former.adapter), source
