"""The one plan that every engine runs: what to aggregate, derive and put out, fully resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from features.aggregations import Aggregation
from features.definitions import FeatureService, FeatureView, RequestView
from features.derivation import needed_for
from features.dtypes import DType
from features.expressions import Expr
from features.frozen import ByValue, FrozenMap

if TYPE_CHECKING:
    from features.library import Library


@dataclass(frozen=True, slots=True, eq=False)
class OutputFeature(ByValue):
    """One column of the answer, named ``view__feature`` (``role__feature``)."""

    column: str
    view: str
    feature: str
    dtype: DType
    default: Any = None

    @property
    def ref(self) -> str:
        """The address ``view:feature``."""
        return f"{self.view}:{self.feature}"


@dataclass(frozen=True, slots=True, eq=False)
class ViewPlan(ByValue):
    """A view under a role: what to aggregate, then what to derive, in this order.

    ``key_columns`` are the spine's or request's columns, one for each key of the entity.
    ``features`` are all that must be computed for somebody else: those put out and those that a
    request view reads. ``dtypes`` has every feature of the view.
    """

    role: str
    view: FeatureView
    key_columns: tuple[str, ...]
    features: tuple[str, ...]
    aggregations: dict[str, Aggregation]
    derived: tuple[tuple[str, Expr], ...]
    dtypes: dict[str, DType]

    @classmethod
    def of(
        cls, role: str, view: FeatureView, key_columns: tuple[str, ...], features: tuple[str, ...]
    ) -> ViewPlan:
        """The plan of some features of a view, with everything that they are derived from."""
        order = view.evaluation_order()
        needed = needed_for(features, view.derived, order)
        aggregations = {n: a for n, a in view.aggregations.items() if n in needed}
        derived = tuple((name, view.derived[name]) for name in order if name in needed)
        return cls(role, view, key_columns, features, aggregations, derived, view.dtypes())

    @property
    def schema(self) -> dict[str, DType]:
        """What the derived expressions read: ``@feature`` → type."""
        return {f"@{name}": dtype for name, dtype in self.dtypes.items()}

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns of the source that this plan reads, once each."""
        read = self.view.columns_read(self.aggregations)
        return tuple(dict.fromkeys((*read, *self.view.source.deciding_columns)))


@dataclass(frozen=True, slots=True, eq=False)
class RequestPlan(ByValue):
    """A request view: its expressions in order, over its fields and stored features.

    ``schema`` types everything the expressions may read: fields as ``x``, features of the view as
    ``@feature``, features of other views and roles as ``@view:feature``.
    """

    view: RequestView
    features: tuple[str, ...]
    derived: tuple[tuple[str, Expr], ...]
    schema: dict[str, DType]

    @property
    def dtypes(self) -> dict[str, DType]:
        """The types of the planned features."""
        return {name: self.schema[f"@{name}"] for name, _ in self.derived}


@dataclass(frozen=True, slots=True, eq=False)
class ServicePlan(ByValue):
    """Everything an engine needs to answer one request, or a spine of them.

    ``requests`` come in an order in which each reads only stored features and earlier ones.
    """

    name: str
    views: tuple[ViewPlan, ...]
    requests: tuple[RequestPlan, ...]
    outputs: tuple[OutputFeature, ...]
    max_staleness: int | None = None
    on_stale: str = "default"
    clock: str = "wall"
    lag: int = 0
    defaults: Mapping[str, Any] = field(default_factory=FrozenMap)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of what the plan means."""
        from features.fingerprint import fingerprint_of

        return fingerprint_of(self)

    @property
    def key_columns(self) -> dict[str, DType]:
        """The key columns that a request or spine must have, with their types."""
        return {
            column: dtype
            for plan in self.views
            for column, dtype in zip(plan.key_columns, plan.view.entity.types, strict=True)
        }

    @property
    def request_columns(self) -> dict[str, DType]:
        """The request fields that a request or spine must have, with their types."""
        return {n: t for plan in self.requests for n, t in plan.view.request.items()}


def resolve(library: Library, refs: str | FeatureService) -> ServicePlan:
    """The plan of a service, of its name, or of ``view:feature,view:*``.

    Raises BadInput for text that is no reference, NotFound for an unknown name or pin,
    DefinitionError for what does not fit together.
    """
    from features.resolution import resolve_service, service_of

    return resolve_service(library, service_of(library, refs))
