"""What people write: entities, sources, views and services, as frozen data.

Making a definition runs nothing; a wrong one raises DefinitionError with the place and a hint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from features.aggregations import Aggregation, check_parts, output_dtype
from features.checks import check_choice, check_duration, check_kind, set_fields, strings
from features.derivation import evaluation_order, infer_in_order, placed
from features.dtypes import DType, dtype_of
from features.errors import DefinitionError
from features.expressions import Expr
from features.frozen import ByValue, FrozenMap
from features.naming import checked_column, checked_name, did_you_mean
from features.sources import Entity, Source
from features.windows import default_hop

__all__ = [
    "Definition",
    "Entity",
    "Feature",
    "FeatureService",
    "FeatureView",
    "RequestView",
    "ServiceMember",
    "Source",
    "ViewRole",
]

Feature = Aggregation | Expr


@dataclass(frozen=True, slots=True, eq=False)
class FeatureView(ByValue):
    """Features of one entity from one source; ``ttl`` and ``hop`` in µs.

    ``ttl`` bounds the age of features without a window; ``hop`` replaces the default hop of all
    windows and may not exceed that of the shortest.
    """

    name: str
    _: KW_ONLY
    entity: Entity
    source: Source
    features: Mapping[str, Feature]
    owner: str = ""
    ttl: int | None = None
    hop: int | None = None
    description: str = ""
    tags: Sequence[str] = ()
    deprecated: str = ""

    def __post_init__(self) -> None:
        checked_name("feature view", self.name)
        check_kind(f"view {self.name!r}", "entity", self.entity, Entity)
        check_kind(f"view {self.name!r}", "source", self.source, Source)
        check_duration(f"view {self.name!r}", "ttl", self.ttl, 1)
        check_duration(f"view {self.name!r}", "hop", self.hop, 1)
        set_fields(
            self, features=_checked_features(self.name, self.features), tags=strings(self.tags)
        )
        for name, feature in self.features.items():
            self._check_feature(name, feature)
        self._check_hop()
        if self.source.schema is None:
            self.evaluation_order()
        else:
            self.dtypes()

    def _check_feature(self, name: str, feature: Feature) -> None:
        if isinstance(feature, Aggregation):
            return _placed_check(f"{self.name}:{name}", feature)
        columns = [read for read in feature.names() if not read.startswith("@")]
        if columns:
            raise DefinitionError(
                f"{self.name}:{name} reads the column {columns[0]!r} without an aggregation",
                f"Use last(col({columns[0]!r})), or ref('…') to another feature.",
            )
        abroad = [read[1:] for read in feature.names() if ":" in read]
        if abroad:
            raise DefinitionError(
                f"{self.name}:{name} refers to {abroad[0]!r} of another view",
                "Combine features of several views in a RequestView.",
            )
        return None

    def _check_hop(self) -> None:
        windows = [a.window for a in self.aggregations.values() if a.window is not None]
        if self.hop is None or not windows:
            return
        most = default_hop(min(windows))
        if self.hop > most:
            raise DefinitionError(
                f"view {self.name!r}: a hop of {self.hop} µs exceeds the default hop of its "
                f"shortest window ({min(windows)} µs)",
                f"Use at most {most} µs.",
            )

    @property
    def aggregations(self) -> dict[str, Aggregation]:
        """The features that aggregate events, by name."""
        return {n: f for n, f in self.features.items() if isinstance(f, Aggregation)}

    @property
    def derived(self) -> dict[str, Expr]:
        """The features that are computed from other features of the view, by name."""
        return {n: f for n, f in self.features.items() if isinstance(f, Expr)}

    def evaluation_order(self) -> tuple[str, ...]:
        """The derived features, each after those it reads. Raises DefinitionError for a circle."""
        return evaluation_order(self.name, self.derived, self.aggregations)

    def dtypes(self) -> dict[str, DType]:
        """The type of every feature. Raises DefinitionError naming the feature."""
        columns = self.source.columns
        self._check_keys(columns)
        found = {name: self._output_dtype(name, columns) for name in self.aggregations}
        schema = {f"@{name}": dtype for name, dtype in found.items()}
        found |= infer_in_order(self.name, self.derived, self.evaluation_order(), schema)
        return {name: found[name] for name in self.features}

    def _output_dtype(self, name: str, columns: Mapping[str, DType]) -> DType:
        try:
            return output_dtype(self.aggregations[name], columns)
        except DefinitionError as error:
            raise placed(f"{self.name}:{name}", error) from None

    def _check_keys(self, columns: Mapping[str, DType]) -> None:
        for key, dtype in zip(self.entity.keys, self.entity.types, strict=True):
            if columns.get(key) != dtype:
                raise DefinitionError(
                    f"view {self.name!r}: the entity {self.entity.name!r} wants {key}: {dtype}, "
                    f"the source {self.source.name!r} has {columns.get(key, 'no such column')}",
                    did_you_mean(key, columns, "columns"),
                )

    def columns_read(
        self, aggregations: Mapping[str, Aggregation] | None = None
    ) -> tuple[str, ...]:
        """The columns of the source that these aggregations (all, if not given) need, once each."""
        source = self.source
        names = [*self.entity.keys, source.event_time, source.available_at]
        names += [name for name in (source.sequence, source.event_id) if name is not None]
        for aggregation in (self.aggregations if aggregations is None else aggregations).values():
            names += aggregation.columns()
        return tuple(dict.fromkeys(names))

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of what the view means; text about it does not change them."""
        from features.fingerprint import fingerprint_of

        return fingerprint_of(self)

    def as_(self, role: str, key: Mapping[str, str]) -> ViewRole:
        """The same view for another key of the request: entity key → request column."""
        return ViewRole(self, role, FrozenMap(key))

    def test(self, rows: Sequence[Mapping[str, Any]], at: Any, key: Any = None) -> dict[str, Any]:
        """The features at a time from rows in memory, by the kernel that batch uses.

        ``at`` is a datetime with a zone or µs; ``key`` may be left out when the rows have one.
        """
        from features.view_test import test_view

        return test_view(self, rows, at, key)


def _placed_check(place: str, aggregation: Aggregation) -> None:
    try:
        check_parts(aggregation)
    except DefinitionError as error:
        raise placed(place, error) from None


def _checked_features(place: str, features: Any) -> FrozenMap[Feature]:
    check_kind(f"view {place!r}", "features", features, Mapping)
    if not features:
        raise DefinitionError(f"view {place!r} has no features", "Give it at least one.")
    for name, feature in features.items():
        checked_name("feature", name)
        if not isinstance(feature, (Aggregation, Expr)):
            raise DefinitionError(
                f"{place}:{name} is a {type(feature).__name__}",
                "Use an aggregation such as mean(col('x')), or an expression of ref('…').",
            )
    return FrozenMap(features)


@dataclass(frozen=True, slots=True, eq=False)
class ViewRole(ByValue):
    """A view under another name, its keys read from other columns (entity key → column)."""

    view: FeatureView
    role: str
    key: Mapping[str, str] = field(default_factory=FrozenMap)

    def __post_init__(self) -> None:
        checked_name("role", self.role)
        place, entity = f"role {self.role!r}", self.view.entity
        for name, column in self.key.items():
            checked_column(place, column)
            if name not in entity.keys:
                raise DefinitionError(
                    f"{place}: {name!r} is no key of the entity {entity.name!r}",
                    did_you_mean(name, entity.keys, "keys"),
                )
        set_fields(self, key=FrozenMap({k: self.key[k] for k in entity.keys if k in self.key}))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of a request or spine that hold the entity's keys, in their order."""
        return tuple(self.key.get(key, key) for key in self.view.entity.keys)


@dataclass(frozen=True, slots=True, eq=False)
class RequestView(ByValue):
    """Features of what is known only when the request comes: its fields, q, other features."""

    name: str
    request: Mapping[str, Any]
    features: Mapping[str, Expr]
    description: str = ""
    owner: str = ""
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        checked_name("request view", self.name)
        place = f"request view {self.name!r}"
        check_kind(place, "request", self.request, Mapping)
        fields = {checked_column(place, n): dtype_of(kind) for n, kind in self.request.items()}
        features = _checked_features(self.name, self.features)
        set_fields(self, request=FrozenMap(fields), features=features, tags=strings(self.tags))
        for name, feature in features.items():
            self._check_feature(name, feature)
        order = self.evaluation_order()
        if not self.reads_other_views:
            schema = dict(self.request)
            infer_in_order(self.name, self.features, order, schema)

    def _check_feature(self, name: str, feature: Feature) -> None:
        if isinstance(feature, Aggregation):
            raise DefinitionError(
                f"{self.name}:{name} aggregates, but a request has no history",
                "Put it into a FeatureView.",
            )
        for column in (read for read in feature.names() if not read.startswith("@")):
            if column not in self.request:
                raise DefinitionError(
                    f"{self.name}:{name} reads {column!r}, which is not a field of the request",
                    did_you_mean(column, self.request, "fields"),
                )

    @property
    def reads_other_views(self) -> bool:
        """Whether a feature refers to a feature of another view."""
        return any(":" in read for f in self.features.values() for read in f.names())

    def evaluation_order(self) -> tuple[str, ...]:
        """The features, each after those of the view that it reads."""
        return evaluation_order(self.name, self.features, ())

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of what the view means; text about it does not change them."""
        from features.fingerprint import fingerprint_of

        return fingerprint_of(self)


ServiceMember = FeatureView | ViewRole | RequestView | str


@dataclass(frozen=True, slots=True, eq=False)
class FeatureService(ByValue):
    """The features that one use wants together, and what to do when they are missing.

    ``views`` are views, roles, or ``view:feature`` and ``view:*`` as text. ``max_staleness`` and
    ``lag`` are in µs; ``on_stale`` is ``default`` or ``error``; ``clock`` is ``wall`` or
    ``replay``; ``defaults`` are values by ``view:feature``.
    """

    name: str
    views: Sequence[ServiceMember]
    max_staleness: int | None = None
    on_stale: str = "default"
    clock: str = "wall"
    defaults: Mapping[str, Any] = field(default_factory=FrozenMap)
    lag: int = 0
    owner: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        checked_name("feature service", self.name)
        place = f"service {self.name!r}"
        members = (self.views,) if isinstance(self.views, ServiceMember) else tuple(self.views)
        set_fields(self, views=members, defaults=FrozenMap(self.defaults))
        if not self.views:
            raise DefinitionError(f"{place} has no views", "Name at least one.")
        for member in self.views:
            check_kind(place, "views", member, ServiceMember)
        check_duration(place, "max_staleness", self.max_staleness, 1)
        check_duration(place, "lag", self.lag, 0)
        check_choice(place, "clock", self.clock, ("wall", "replay"))
        check_choice(place, "on_stale", self.on_stale, ("default", "error"))


Definition = Entity | Source | FeatureView | RequestView | FeatureService
