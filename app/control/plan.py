"""What applying would change: a pure comparison of what is with what is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.control.catalog import Delete, Put
from app.control.definitions import library_of, members_of
from app.control.dependents import dependents_of
from app.control.resources import Resource, Stored
from app.errors import DefinitionError
from features.definitions import Entity, FeatureService, FeatureView, RequestView, Source
from features.library import Library

CREATE, MEANING, TEXT, UNCHANGED, DELETE = "create", "meaning", "text", "unchanged", "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one resource, and what follows from it for others."""

    action: str
    kind: str
    name: str
    before: str = ""
    after: str = ""
    consequences: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "action": self.action,
            "kind": self.kind,
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "consequences": list(self.consequences),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes in order, and the writes that make them; ``changes`` holds the unchanged too."""

    changes: tuple[Change, ...]
    writes: tuple[Put | Delete, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.writes

    def data(self) -> dict[str, Any]:
        """As JSON-able data."""
        counts = dict.fromkeys((CREATE, MEANING, TEXT, DELETE, UNCHANGED), 0)
        for change in self.changes:
            counts[change.action] += 1
        return {"changes": [change.data() for change in self.changes], "counts": counts}


def plan(
    current: Sequence[Stored],
    wanted: Sequence[Resource],
    *,
    whole_projects: frozenset[str] = frozenset(),
    rows: Mapping[str, int] | None = None,
) -> Plan:
    """What must change so that ``wanted`` holds.

    What a project in ``whole_projects`` once had and no longer wants is deleted. ``rows`` are those
    of the lake's tables, to tell what must be computed again. Raises DefinitionError if what is
    there afterwards does not hold together.
    """
    known = {stored.resource.address: stored for stored in current}
    asked = {resource.address: resource for resource in wanted}
    gone = [s for s in current if _is_gone(s.resource, asked, whole_projects)]
    left = [s.resource for s in current if s not in gone and s.resource.address not in asked]
    after = [*left, *asked.values()]
    _refuse_orphans(gone, after)
    library = library_of(after)
    look = _Consumers(library, after, rows or {})
    changes = [_change(known.get(a), r, look) for a, r in asked.items()]
    changes += [_deletion(stored) for stored in gone]
    return Plan(tuple(changes), tuple(_writes(changes, known, asked)))


def _is_gone(resource: Resource, asked: Mapping[str, Resource], whole: frozenset[str]) -> bool:
    is_run = resource.kind == "Run"
    return not is_run and resource.project in whole and resource.address not in asked


def _refuse_orphans(gone: Sequence[Stored], after: Sequence[Resource]) -> None:
    for stored in gone:
        users = dependents_of(stored.resource, after)
        if users:
            address = stored.resource.address
            raise DefinitionError(
                f"{address} is no longer in its project, but {', '.join(users)} needs it",
                "Keep it, or take away what needs it as well.",
            )


def _change(before: Stored | None, wanted: Resource, look: _Consumers) -> Change:
    if before is None:
        return Change(CREATE, wanted.kind, wanted.name, "", wanted.fingerprint, look.of_new(wanted))
    old = before.resource
    marks = (old.fingerprint, wanted.fingerprint)
    if not old.same_meaning(wanted):
        moved = _moved(old, wanted)
        return Change(MEANING, wanted.kind, wanted.name, *marks, (*moved, *look.of_change(wanted)))
    action = UNCHANGED if old.same_text(wanted) else TEXT
    return Change(action, wanted.kind, wanted.name, *marks, _moved(old, wanted))


def _moved(old: Resource, wanted: Resource) -> tuple[str, ...]:
    if old.project == wanted.project:
        return ()
    return (f"moves from project {old.project!r} to {wanted.project!r}",)


def _deletion(stored: Stored) -> Change:
    resource = stored.resource
    return Change(DELETE, resource.kind, resource.name, resource.fingerprint, "")


def _writes(
    changes: Iterable[Change], known: Mapping[str, Stored], asked: Mapping[str, Resource]
) -> Iterable[Put | Delete]:
    for change in changes:
        address = f"{change.kind}/{change.name}"
        version = known[address].version if address in known else 0
        if change.action == DELETE:
            yield Delete(change.kind, change.name, version)
        elif change.action != UNCHANGED:
            yield Put(asked[address], version)


class _Consumers:
    """Who is touched by a change, found in the library as it will be."""

    def __init__(
        self, library: Library, resources: Sequence[Resource], rows: Mapping[str, int]
    ) -> None:
        self._library = library
        self._resources = resources
        self._rows = rows

    def of_new(self, resource: Resource) -> tuple[str, ...]:
        """What a new resource asks for."""
        definition = resource.definition
        return self._materialize(definition) if isinstance(definition, FeatureView) else ()

    def of_change(self, resource: Resource) -> tuple[str, ...]:
        """What must be done again, and who reads it."""
        found: list[str] = []
        definition = resource.definition
        if isinstance(definition, FeatureView):
            found += self._materialize(definition)
        if isinstance(definition, FeatureView | RequestView):
            found += self._services(definition.name)
        if isinstance(definition, Source | Entity):
            found += [f"view {v.name} reads it" for v in self._views(definition)]
        if isinstance(definition, FeatureService):
            found += self._models(definition.name)
        return tuple(found)

    def _materialize(self, view: FeatureView) -> tuple[str, ...]:
        rows = self._rows.get(view.source.table)
        shown = "no rows yet" if rows is None else f"{rows:,} rows"
        return (f"materialize {view.name} from {view.source.table} ({shown})",)

    def _views(self, part: Source | Entity) -> list[FeatureView]:
        return [v for v in self._library.views() if part.name in (v.source.name, v.entity.name)]

    def _services(self, view: str) -> list[str]:
        services = [s.name for s in self._library.services() if view in members_of(s)]
        models = [line for service in services for line in self._models(service)]
        return [f"service {name} serves it" for name in services] + models

    def _models(self, service: str) -> list[str]:
        families = [r for r in self._resources if r.kind == "ModelFamily"]
        return [
            f"model {r.name} consumes service {service}: train it again"
            for r in families
            if r.spec.get("service") == service
        ]


__all__ = [
    "CREATE",
    "DELETE",
    "MEANING",
    "TEXT",
    "UNCHANGED",
    "Change",
    "Plan",
    "plan",
]
