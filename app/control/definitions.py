"""Between the catalog's resources and the library that the feature store works with."""

from __future__ import annotations

from collections.abc import Iterable

from app.control.resources import DEFINITIONS, Resource
from features.definitions import Definition, FeatureService, ViewRole
from features.library import Library


def definitions_in(resources: Iterable[Resource]) -> list[Definition]:
    """The feature definitions among resources; what others are made of comes first."""
    order = {"Entity": 0, "Source": 1, "FeatureView": 2, "RequestView": 3, "FeatureService": 4}
    chosen = sorted((r for r in resources if r.kind in DEFINITIONS), key=lambda r: order[r.kind])
    return [definition for r in chosen if (definition := r.definition) is not None]


def library_of(resources: Iterable[Resource]) -> Library:
    """The library of all definitions among resources; raises DefinitionError if two disagree."""
    return Library.from_definitions(definitions_in(resources))


def members_of(service: FeatureService) -> set[str]:
    """The names of the views that a service reads."""
    names = set()
    for member in service.views:
        if isinstance(member, str):
            names.add(member.partition(":")[0].partition("@")[0])
        else:
            names.add(member.view.name if isinstance(member, ViewRole) else member.name)
    return names
