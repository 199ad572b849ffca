"""From names to a plan: finds what a service asks for, and what that is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from features.definitions import FeatureService, FeatureView, RequestView, ServiceMember, ViewRole
from features.derivation import infer_in_order, needed_for, read_features, renamed_refs
from features.dtypes import DType
from features.errors import BadInput, DefinitionError, NotFound
from features.expressions import Expr
from features.frozen import FrozenMap
from features.naming import did_you_mean
from features.plan import OutputFeature, RequestPlan, ServicePlan, ViewPlan
from features.values import checked_value

if TYPE_CHECKING:
    from features.library import Library

Member = ViewRole | RequestView
Asked = dict[str, dict[str, None]]


def service_of(library: Library, refs: str | FeatureService) -> FeatureService:
    """The service that is meant: itself, by name, or made up for ``view:feature,view:*``."""
    if isinstance(refs, FeatureService):
        return refs
    parts = tuple(part.strip() for part in refs.split(","))
    if any(":" in part for part in parts):
        return FeatureService("refs", parts)
    if len(parts) > 1:
        raise BadInput(f"{refs!r} names no features", "Write view:feature,view:* or one service.")
    return library.service(parts[0])


def resolve_service(library: Library, service: FeatureService) -> ServicePlan:
    """The plan of a service whose sources all have a schema."""
    found = Members(library, service)
    views = tuple(found.view_plans())
    requests = _request_plans(found, views)
    _check_columns(service.name, views, requests)
    dtypes = _all_dtypes(views, requests)
    defaults = _checked_defaults(service, dtypes)
    return ServicePlan(
        service.name,
        views,
        requests,
        tuple(_outputs(found.asked, dtypes, defaults)),
        service.max_staleness,
        service.on_stale,
        service.clock,
        service.lag,
        defaults,
    )


class Members:
    """The views of a service by role, and the features asked for and needed of each.

    Making one checks every name. Raises BadInput, NotFound or DefinitionError.
    """

    def __init__(self, library: Library, service: FeatureService) -> None:
        self._library = library
        self._place = f"service {service.name!r}"
        self.members: dict[str, Member] = {}
        self.asked: Asked = {}
        self.needed: Asked = {}
        for member in service.views:
            if not isinstance(member, str):
                self._enter(*_entry(member))
        for member in service.views:
            self._ask(member)
        self._follow_references()

    def _enter(self, role: str, member: Member) -> Member:
        known = self.members.setdefault(role, member)
        if known != member:
            raise DefinitionError(
                f"{self._place}: {role!r} names two different things",
                "Give one of them another role with as_().",
            )
        return known

    def _ask(self, member: ServiceMember) -> None:
        if isinstance(member, str):
            role, features = self._asked_by_text(member)
        else:
            role, entered = _entry(member)
            features = tuple(_features(entered))
        self.asked.setdefault(role, {}).update(dict.fromkeys(features))
        self.needed.setdefault(role, {}).update(dict.fromkeys(features))

    def _asked_by_text(self, text: str) -> tuple[str, tuple[str, ...]]:
        name, colon, feature = text.partition(":")
        if not (name and colon and feature):
            raise BadInput(f"{text!r} is not a feature reference", "Write view:feature or view:*.")
        role, member = self._find(name)
        if feature == "*":
            return role, tuple(_features(member))
        self._check_feature(role, member, feature)
        return role, (feature,)

    def _check_feature(self, role: str, member: Member, feature: str) -> None:
        if feature not in _features(member):
            hint = did_you_mean(feature, _features(member), "features")
            raise NotFound(f"{role} has no feature {feature!r}", hint)

    def _find(self, address: str) -> tuple[str, Member]:
        """The role and view behind ``name`` or ``name@fingerprint``."""
        name, _, pin = address.partition("@")
        member = self.members.get(name)
        if member is None:
            member = self._enter(*_entry(self._library.any_view(name)))
        fingerprint = _fingerprint(member)
        if pin and pin != fingerprint:
            raise NotFound(
                f"{name}@{pin} is not known here", f"Known fingerprints of {name}: {fingerprint}."
            )
        return name, member

    def _follow_references(self) -> None:
        """Enters what request views read; it is planned, but not put out."""
        pending = [(role, name) for role, features in self.asked.items() for name in features]
        seen = set(pending)
        while pending:
            for read in self._reads(*pending.pop()):
                if read not in seen:
                    seen.add(read)
                    pending.append(read)

    def _reads(self, role: str, feature: str) -> Iterator[tuple[str, str]]:
        member = self.members[role]
        if isinstance(member, ViewRole):
            return
        for read in read_features(member.features[feature]):
            yield self._reference(role, feature, read)

    def _reference(self, role: str, feature: str, read: str) -> tuple[str, str]:
        address, colon, name = read.rpartition(":")
        if not colon:
            return role, read
        try:
            other, member = self._find(address)
            self._check_feature(other, member, name)
        except NotFound as error:
            raise DefinitionError(f"{role}:{feature}: {error.what}", error.hint) from None
        self.needed.setdefault(other, {})[name] = None
        return other, name

    def view_plans(self) -> Iterator[ViewPlan]:
        """The plans of the feature views, in the order in which they were named."""
        for role, member in self.members.items():
            if isinstance(member, ViewRole) and role in self.needed:
                features = tuple(self.needed[role])
                yield ViewPlan.of(role, member.view, member.key_columns, features)

    def request_views(self) -> dict[str, RequestView]:
        """The request views, each after those it reads. Raises DefinitionError for a circle."""
        order: dict[str, RequestView] = {}
        for role, member in self.members.items():
            if isinstance(member, RequestView) and role in self.needed:
                self._visit(role, (), order)
        return order

    def _visit(self, role: str, path: tuple[str, ...], order: dict[str, RequestView]) -> None:
        member = self.members.get(role)
        if role in order or not isinstance(member, RequestView):
            return
        if role in path:
            raise DefinitionError(
                f"{self._place}: request views read each other: {' → '.join((*path, role))}",
                "Move the shared feature into a view of its own.",
            )
        for read in _abroad(member):
            self._visit(read.partition(":")[0].partition("@")[0], (*path, role), order)
        order[role] = member

    def sources_without_schema(self) -> list[str]:
        """The names of the sources whose columns are not known yet."""
        views = [m.view for m in self.members.values() if isinstance(m, ViewRole)]
        return sorted({v.source.name for v in views if v.source.schema is None})


def _entry(member: FeatureView | ViewRole | RequestView) -> tuple[str, Member]:
    if isinstance(member, FeatureView):
        return member.name, ViewRole(member, member.name)
    return (member.role if isinstance(member, ViewRole) else member.name), member


def _features(member: Member) -> Mapping[str, Any]:
    return member.view.features if isinstance(member, ViewRole) else member.features


def _fingerprint(member: Member) -> str:
    return (member.view if isinstance(member, ViewRole) else member).fingerprint


def _abroad(view: RequestView) -> list[str]:
    return [read for f in view.features.values() for read in read_features(f) if ":" in read]


def _request_plans(found: Members, views: Iterable[ViewPlan]) -> tuple[RequestPlan, ...]:
    schema = {f"@{p.role}:{name}": p.dtypes[name] for p in views for name in p.features}
    plans = []
    for role, view in found.request_views().items():
        plan = _request_plan(view, tuple(found.needed[role]), schema)
        schema |= {f"@{role}:{name}": dtype for name, dtype in plan.dtypes.items()}
        plans.append(plan)
    return tuple(plans)


def _request_plan(
    view: RequestView, features: tuple[str, ...], known: Mapping[str, DType]
) -> RequestPlan:
    order = view.evaluation_order()
    needed = needed_for(features, view.features, order)
    expressions = {n: _unpinned(view.features[n]) for n in order if n in needed}
    reads = {name for e in expressions.values() for name in e.names() if ":" in name}
    schema = {**view.request, **{name: known[name] for name in known if name in reads}}
    found = infer_in_order(view.name, expressions, tuple(expressions), schema)
    schema |= {f"@{name}": dtype for name, dtype in found.items()}
    return RequestPlan(view, features, tuple(expressions.items()), schema)


def _unpinned(expr: Expr) -> Expr:
    """``view@fingerprint:feature`` was checked; from here on it is ``view:feature``."""
    pinned = [read for read in read_features(expr) if "@" in read]
    names = {read: f"{read.partition('@')[0]}:{read.rpartition(':')[2]}" for read in pinned}
    return renamed_refs(expr, names) if names else expr


def _outputs(
    asked: Asked, dtypes: Mapping[str, DType], defaults: Mapping[str, Any]
) -> Iterator[OutputFeature]:
    for role, features in asked.items():
        for name in features:
            ref = f"{role}:{name}"
            yield OutputFeature(f"{role}__{name}", role, name, dtypes[ref], defaults.get(ref))


def _checked_defaults(service: FeatureService, dtypes: Mapping[str, DType]) -> FrozenMap[Any]:
    place = f"service {service.name!r}: default of"
    for ref in service.defaults:
        if ref not in dtypes:
            raise DefinitionError(
                f"{place} {ref!r}, which it does not have", did_you_mean(ref, dtypes, "features")
            )
    try:
        values = {
            r: checked_value(f"{place} {r}", v, dtypes[r]) for r, v in service.defaults.items()
        }
    except BadInput as error:
        raise DefinitionError(error.what, error.hint) from None
    return FrozenMap(values)


def _all_dtypes(views: Iterable[ViewPlan], requests: Iterable[RequestPlan]) -> dict[str, DType]:
    stored = {f"{p.role}:{name}": dtype for p in views for name, dtype in p.dtypes.items()}
    computed = {f"{p.view.name}:{n}": dtype for p in requests for n, dtype in p.dtypes.items()}
    return stored | computed


def _check_columns(
    service: str, views: Iterable[ViewPlan], requests: Iterable[RequestPlan]
) -> None:
    """One column of the spine cannot be of two types."""
    known: dict[str, DType] = {}
    for name, dtype in _columns(views, requests):
        if known.setdefault(name, dtype) != dtype:
            raise DefinitionError(
                f"service {service!r} wants {name!r} as {known[name]} and as {dtype}",
                "Rename the request field, or give the view a role with as_().",
            )


def _columns(
    views: Iterable[ViewPlan], requests: Iterable[RequestPlan]
) -> Iterator[tuple[str, DType]]:
    for plan in views:
        yield from zip(plan.key_columns, plan.view.entity.types, strict=True)
    for request in requests:
        yield from request.view.request.items()
