"""All definitions of a project by name; refuses two meanings of one name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from features.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    ServiceMember,
    Source,
    ViewRole,
)
from features.dtypes import DType
from features.errors import DefinitionError, NotFound
from features.fingerprint import silent
from features.naming import did_you_mean
from features.plan import resolve
from features.resolution import Members
from features.serial import to_data

Kind = TypeVar("Kind", Entity, Source, FeatureView, RequestView, FeatureService)
_PLURALS = {
    Entity: "entities",
    Source: "sources",
    FeatureView: "feature views",
    RequestView: "request views",
    FeatureService: "feature services",
}
_SHOWN = {
    Entity: "entity",
    Source: "source",
    FeatureView: "feature view",
    RequestView: "request view",
    FeatureService: "feature service",
}


class Library:
    """Definitions by kind and name. Adding one also adds what it is made of."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, str], Definition] = {}

    @classmethod
    def from_definitions(cls, definitions: Iterable[Definition]) -> Library:
        """A library of these definitions, checked as far as their schemas are known.

        Raises DefinitionError, NotFound or BadInput for the first wrong one.
        """
        library = cls()
        library.add(*definitions)
        library.check()
        return library

    def add(self, *definitions: Definition) -> None:
        """Adds definitions; the same one twice is nothing new."""
        for definition in definitions:
            self.add(*_parts(definition))
            self._add(definition)

    def _add(self, definition: Definition) -> None:
        self._refuse_twin_view(definition)
        known = self._known.setdefault((type(definition), definition.name), definition)
        if known is not definition and not _same_meaning(known, definition):
            raise DefinitionError(
                f"{_SHOWN[type(definition)]} {definition.name!r} is defined twice, differently",
                "Rename one of them.",
            )

    def _refuse_twin_view(self, definition: Definition) -> None:
        twin = {FeatureView: RequestView, RequestView: FeatureView}.get(type(definition))
        if twin is not None and (twin, definition.name) in self._known:
            raise DefinitionError(
                f"{definition.name!r} is both a feature view and a request view",
                "Rename one: view:feature must name one thing.",
            )

    def check(self) -> None:
        """Resolves every service; where a schema is not known yet, only its names are checked."""
        for service in self.services():
            if not Members(self, service).sources_without_schema():
                resolve(self, service)

    def with_schemas(self, schemas: Mapping[str, Mapping[str, DType]]) -> Library:
        """The same library, sources without a schema given that of their table (by source name).

        Raises DefinitionError where a view does not fit its table.
        """
        filled = Library()
        filled.add(*(_filled(definition, schemas) for definition in self.definitions()))
        return filled

    def _get(self, kind: type[Kind], name: str) -> Kind:
        found = self._known.get((kind, name))
        if isinstance(found, kind):
            return found
        names = [known for found_kind, known in self._known if found_kind is kind]
        raise NotFound(
            f"there is no {_SHOWN[kind]} {name!r}", did_you_mean(name, names, _PLURALS[kind])
        )

    def _all(self, kind: type[Kind]) -> list[Kind]:
        return [known for known in self._known.values() if isinstance(known, kind)]

    def entity(self, name: str) -> Entity:
        """The entity of that name, or NotFound with a hint."""
        return self._get(Entity, name)

    def source(self, name: str) -> Source:
        """The source of that name, or NotFound with a hint."""
        return self._get(Source, name)

    def view(self, name: str) -> FeatureView:
        """The feature view of that name, or NotFound with a hint."""
        return self._get(FeatureView, name)

    def request_view(self, name: str) -> RequestView:
        """The request view of that name, or NotFound with a hint."""
        return self._get(RequestView, name)

    def service(self, name: str) -> FeatureService:
        """The feature service of that name, or NotFound with a hint."""
        if (FeatureService, name) not in self._known and self._names_a_view(name):
            raise NotFound(
                f"there is no feature service {name!r}, but a view",
                f"Write {name}:* for all of it.",
            )
        return self._get(FeatureService, name)

    def _names_a_view(self, name: str) -> bool:
        return any((kind, name) in self._known for kind in (FeatureView, RequestView))

    def any_view(self, name: str) -> FeatureView | RequestView:
        """The feature view or request view of that name, or NotFound with a hint."""
        found = self._known.get((FeatureView, name)) or self._known.get((RequestView, name))
        if isinstance(found, (FeatureView, RequestView)):
            return found
        known = [found.name for found in self.views()]
        known += [found.name for found in self.request_views()]
        raise NotFound(f"there is no view {name!r}", did_you_mean(name, known, "views"))

    def entities(self) -> list[Entity]:
        """All entities."""
        return self._all(Entity)

    def sources(self) -> list[Source]:
        """All sources."""
        return self._all(Source)

    def views(self) -> list[FeatureView]:
        """All feature views."""
        return self._all(FeatureView)

    def request_views(self) -> list[RequestView]:
        """All request views."""
        return self._all(RequestView)

    def services(self) -> list[FeatureService]:
        """All feature services."""
        return self._all(FeatureService)

    def definitions(self) -> list[Definition]:
        """Everything, in the order in which it was added."""
        return list(self._known.values())


def _parts(definition: Definition) -> list[Definition]:
    if isinstance(definition, FeatureView):
        return [definition.entity, definition.source]
    if isinstance(definition, FeatureService):
        members = (m.view if isinstance(m, ViewRole) else m for m in definition.views)
        return [member for member in members if not isinstance(member, str)]
    return []


def _same_meaning(a: Definition, b: Definition) -> bool:
    return bool(silent(to_data(a)) == silent(to_data(b)))


def _filled(definition: Definition, schemas: Mapping[str, Mapping[str, DType]]) -> Definition:
    if isinstance(definition, Source):
        return _filled_source(definition, schemas)
    if isinstance(definition, FeatureView):
        return _filled_view(definition, schemas)
    if isinstance(definition, FeatureService):
        return replace(definition, views=[_filled_member(m, schemas) for m in definition.views])
    return definition


def _filled_source(source: Source, schemas: Mapping[str, Mapping[str, DType]]) -> Source:
    if source.schema is not None or source.name not in schemas:
        return source
    return source.with_schema(schemas[source.name])


def _filled_view(view: FeatureView, schemas: Mapping[str, Mapping[str, DType]]) -> FeatureView:
    source = _filled_source(view.source, schemas)
    return view if source is view.source else replace(view, source=source)


def _filled_member(
    member: ServiceMember, schemas: Mapping[str, Mapping[str, DType]]
) -> ServiceMember:
    if isinstance(member, FeatureView):
        return _filled_view(member, schemas)
    if isinstance(member, ViewRole):
        return replace(member, view=_filled_view(member.view, schemas))
    return member
