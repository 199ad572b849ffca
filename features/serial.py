"""Definitions as JSON-able data and back, and the fingerprint of their meaning.

The catalog and the model packages store this, so that no server imports a project's Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import orjson

from features.aggregations import Aggregation
from features.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    Source,
    ViewRole,
)
from features.errors import DamagedData
from features.expressions import Call, Col, Expr, Lit, QueryTime, Ref
from features.frozen import FrozenMap
from features.plan import OutputFeature, RequestPlan, ServicePlan, ViewPlan

Data = dict[str, Any]


def to_data(thing: Any) -> Any:
    """The definition, expression or plan as JSON-able data."""
    writer = _WRITERS.get(type(thing))
    if writer is None:
        return thing
    return {"is": _NAMES[type(thing)], **writer(thing)}


def from_data(data: Any) -> Any:
    """What ``to_data`` was given. Raises DamagedData for anything else."""
    if not isinstance(data, Mapping):
        return data
    try:
        return _READERS[data["is"]](data)
    except (KeyError, TypeError) as error:
        raise DamagedData(f"this is not a stored definition: {error}") from error


def canonical(data: Any) -> bytes:
    """The one JSON text of data, keys sorted."""
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)


def _expression(node: Any) -> Data:
    if isinstance(node, Call):
        return {"op": node.op, "args": [to_data(a) for a in node.args], "params": list(node.params)}
    if isinstance(node, Lit):
        return {"value": _scalar(node.value), "dtype": node.dtype}
    return {} if isinstance(node, QueryTime) else {"name": node.name}


def _scalar(value: Any) -> Any:
    """JSON has no NaN and no infinity; a map is told from them by its own wrapping."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, list):
        return [_scalar(item) for item in value]
    if isinstance(value, Mapping):
        return {"map": {name: _scalar(item) for name, item in value.items()}}
    return value


def _unscalar(value: Any) -> Any:
    if isinstance(value, list):
        return [_unscalar(item) for item in value]
    if isinstance(value, Mapping) and "map" in value:
        return {name: _unscalar(item) for name, item in value["map"].items()}
    return float(value["float"]) if isinstance(value, Mapping) else value


def _literal(data: Mapping[str, Any]) -> Lit:
    return Lit(_unscalar(data["value"]), data["dtype"])


def _aggregation(a: Aggregation) -> Data:
    return {
        "kind": a.kind,
        "of": to_data(a.of),
        "k": a.k,
        "window": a.window,
        "condition": to_data(a.condition),
        "group": a.group,
        "quantiles": list(a.quantiles),
    }


def _read_aggregation(data: Mapping[str, Any]) -> Aggregation:
    return Aggregation(
        data["kind"],
        from_data(data["of"]),
        data["k"],
        data["window"],
        from_data(data["condition"]),
        data["group"],
        tuple(data["quantiles"]),
    )


def _entity(entity: Entity) -> Data:
    about = {"description": entity.description, "owner": entity.owner, "tags": list(entity.tags)}
    return {"name": entity.name, "key": list(entity.keys), "type": list(entity.types), **about}


def _read_entity(data: Mapping[str, Any]) -> Entity:
    key, kind = tuple(data["key"]), tuple(data["type"])
    return Entity(data["name"], key, kind, data["description"], data["owner"], tuple(data["tags"]))


_SOURCE_FIELDS = tuple(part.name for part in fields(Source))


def _source(source: Source) -> Data:
    data = {name: getattr(source, name) for name in _SOURCE_FIELDS}
    columns = None if source.schema is None else [list(pair) for pair in source.schema.items()]
    return {**data, "schema": columns}


def _read_source(data: Mapping[str, Any]) -> Source:
    given = {name: data[name] for name in _SOURCE_FIELDS}
    columns = None if given["schema"] is None else dict(given["schema"])
    return Source(**{**given, "schema": columns})


def _pairs(mapping: Mapping[str, Any]) -> list[list[Any]]:
    return [[name, to_data(value)] for name, value in mapping.items()]


def _unpairs(pairs: Any) -> dict[str, Any]:
    return {name: from_data(value) for name, value in pairs}


def _view(view: FeatureView) -> Data:
    return {
        "name": view.name,
        "entity": to_data(view.entity),
        "source": to_data(view.source),
        "features": _pairs(view.features),
        "ttl": view.ttl,
        "hop": view.hop,
        "owner": view.owner,
        "description": view.description,
        "tags": list(view.tags),
        "deprecated": view.deprecated,
    }


def _read_view(data: Mapping[str, Any]) -> FeatureView:
    return FeatureView(
        data["name"],
        entity=from_data(data["entity"]),
        source=from_data(data["source"]),
        features=_unpairs(data["features"]),
        owner=data["owner"],
        ttl=data["ttl"],
        hop=data["hop"],
        description=data["description"],
        tags=tuple(data["tags"]),
        deprecated=data["deprecated"],
    )


def _role(role: ViewRole) -> Data:
    return {"view": to_data(role.view), "role": role.role, "key": _pairs(role.key)}


def _read_role(data: Mapping[str, Any]) -> ViewRole:
    return ViewRole(from_data(data["view"]), data["role"], _unpairs(data["key"]))


def _request_view(view: RequestView) -> Data:
    return {
        "name": view.name,
        "request": [list(pair) for pair in view.request.items()],
        "features": _pairs(view.features),
        "description": view.description,
        "owner": view.owner,
        "tags": list(view.tags),
    }


def _read_request_view(data: Mapping[str, Any]) -> RequestView:
    return RequestView(
        data["name"],
        dict(data["request"]),
        _unpairs(data["features"]),
        data["description"],
        data["owner"],
        tuple(data["tags"]),
    )


_SERVICE_FIELDS = ("name", "max_staleness", "on_stale", "clock", "lag", "description", "owner")


def _service(service: FeatureService) -> Data:
    data = {name: getattr(service, name) for name in _SERVICE_FIELDS}
    views = [to_data(member) for member in service.views]
    return {**data, "views": views, "defaults": _defaults(service.defaults)}


def _defaults(defaults: Mapping[str, Any]) -> list[list[Any]]:
    return [[name, _scalar(value)] for name, value in defaults.items()]


def _undefaults(pairs: Any) -> dict[str, Any]:
    return {name: _unscalar(value) for name, value in pairs}


def _read_service(data: Mapping[str, Any]) -> FeatureService:
    given = {name: data[name] for name in _SERVICE_FIELDS}
    views = [from_data(member) for member in data["views"]]
    return FeatureService(views=views, defaults=_undefaults(data["defaults"]), **given)


def _view_plan(plan: ViewPlan) -> Data:
    keys, asked = list(plan.key_columns), list(plan.features)
    return {"role": plan.role, "view": to_data(plan.view), "keys": keys, "features": asked}


def _read_view_plan(data: Mapping[str, Any]) -> ViewPlan:
    view = from_data(data["view"])
    return ViewPlan.of(data["role"], view, tuple(data["keys"]), tuple(data["features"]))


def _request_plan(plan: RequestPlan) -> Data:
    return {
        "view": to_data(plan.view),
        "features": list(plan.features),
        "derived": [[name, to_data(expr)] for name, expr in plan.derived],
        "schema": _pairs(plan.schema),
    }


def _read_request_plan(data: Mapping[str, Any]) -> RequestPlan:
    derived = tuple((name, from_data(expr)) for name, expr in data["derived"])
    features = tuple(data["features"])
    return RequestPlan(from_data(data["view"]), features, derived, _unpairs(data["schema"]))


_OUTPUT_FIELDS = tuple(part.name for part in fields(OutputFeature))


def _output(output: OutputFeature) -> Data:
    data = {name: getattr(output, name) for name in _OUTPUT_FIELDS}
    return {**data, "default": _scalar(output.default)}


def _read_output(data: Mapping[str, Any]) -> OutputFeature:
    given = {name: data[name] for name in _OUTPUT_FIELDS}
    return OutputFeature(**{**given, "default": _unscalar(given["default"])})


_PLAN_FIELDS = ("name", "max_staleness", "on_stale", "clock", "lag")


def _plan(plan: ServicePlan) -> Data:
    data = {name: getattr(plan, name) for name in _PLAN_FIELDS}
    parts = {part: [to_data(p) for p in getattr(plan, part)] for part in _PLAN_PARTS}
    return {**data, **parts, "defaults": _defaults(plan.defaults)}


_PLAN_PARTS = ("views", "requests", "outputs")


def _read_plan(data: Mapping[str, Any]) -> ServicePlan:
    given: Data = {name: data[name] for name in _PLAN_FIELDS}
    given |= {part: tuple(from_data(p) for p in data[part]) for part in _PLAN_PARTS}
    return ServicePlan(**given, defaults=FrozenMap(_undefaults(data["defaults"])))


_KINDS: tuple[tuple[str, type, Callable[[Any], Data], Callable[[Any], Any]], ...] = (
    ("aggregation", Aggregation, _aggregation, _read_aggregation),
    ("call", Call, _expression, lambda d: Call(d["op"], _args(d), tuple(d["params"]))),
    ("col", Col, _expression, lambda d: Col(d["name"])),
    ("entity", Entity, _entity, _read_entity),
    ("lit", Lit, _expression, _literal),
    ("output", OutputFeature, _output, _read_output),
    ("plan", ServicePlan, _plan, _read_plan),
    ("query_time", QueryTime, _expression, lambda d: QueryTime()),
    ("ref", Ref, _expression, lambda d: Ref(d["name"])),
    ("request_plan", RequestPlan, _request_plan, _read_request_plan),
    ("request_view", RequestView, _request_view, _read_request_view),
    ("role", ViewRole, _role, _read_role),
    ("service", FeatureService, _service, _read_service),
    ("source", Source, _source, _read_source),
    ("view", FeatureView, _view, _read_view),
    ("view_plan", ViewPlan, _view_plan, _read_view_plan),
)


def _args(data: Mapping[str, Any]) -> tuple[Expr, ...]:
    return tuple(from_data(arg) for arg in data["args"])


_NAMES = {kind: name for name, kind, _, _ in _KINDS}
_WRITERS = {kind: writer for _, kind, writer, _ in _KINDS}
_READERS = {name: reader for name, _, _, reader in _KINDS}
