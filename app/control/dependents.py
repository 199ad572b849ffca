"""Who would be left without something that they are made of, if a resource went away."""

from __future__ import annotations

from collections.abc import Iterable

from app.control.definitions import members_of
from app.control.resources import Resource
from features.definitions import FeatureService, FeatureView, RequestView


def dependents_of(resource: Resource, others: Iterable[Resource]) -> list[str]:
    """The addresses of those resources that need this one, sorted."""
    return sorted(other.address for other in others if resource.address in needs_of(other))


def needs_of(resource: Resource) -> set[str]:
    """The addresses of what a resource is made of, or reads."""
    definition = resource.definition
    if isinstance(definition, FeatureView):
        return {f"Entity/{definition.entity.name}", f"Source/{definition.source.name}"}
    if isinstance(definition, FeatureService):
        return _views(members_of(definition))
    if isinstance(definition, RequestView):
        return _views(_read_by(definition))
    named = _NAMED.get(resource.kind)
    return {f"{named[0]}/{resource.spec[named[1]]}"} if named else set()


_NAMED = {
    "Deployment": ("ModelFamily", "family"),
    "ModelFamily": ("FeatureService", "service"),
    "Monitor": ("ModelFamily", "family"),
    "Rule": ("Monitor", "given"),
}


def _views(names: Iterable[str]) -> set[str]:
    """Views of both kinds share their names, so one of the two addresses exists at most."""
    return {f"{kind}/{name}" for name in names for kind in ("FeatureView", "RequestView")}


def _read_by(view: RequestView) -> set[str]:
    reads = (name for feature in view.features.values() for name in feature.names())
    return {name[1:].partition(":")[0] for name in reads if name.startswith("@") and ":" in name}
