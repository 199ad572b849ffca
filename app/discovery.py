"""The catalog of features as people look for them: lists, search, and everything about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.control.definitions import members_of
from app.errors import DefinitionError, NotFound
from app.formula import written
from features.aggregations import Aggregation
from features.definitions import FeatureService, FeatureView, RequestView
from features.expressions import Expr
from features.library import Library
from features.naming import did_you_mean
from features.windows import hop_of

Data = dict[str, Any]


def features_of(library: Library) -> list[Data]:
    """One row per feature, by view and in the order of its definition."""
    rows = [row for view in library.views() for row in _view_rows(view)]
    return rows + [row for view in library.request_views() for row in _request_rows(view)]


def matching(rows: Sequence[Data], text: str) -> list[Data]:
    """The rows that hold every word of the text, whatever the case."""
    words = text.lower().split()
    return [row for row in rows if all(word in _haystack(row) for word in words)]


def describe(library: Library, ref: str) -> Data:
    """Everything about a service, a view, or ``view:feature``. Raises NotFound with a hint."""
    name, colon, feature = ref.partition(":")
    if colon:
        return _feature(library, name.partition("@")[0], feature)
    services = {service.name: service for service in library.services()}
    if name in services:
        return _service(library, services[name])
    views = [*(v.name for v in library.views()), *(v.name for v in library.request_views())]
    if name not in views:
        hint = did_you_mean(name, [*views, *services], "views and services")
        raise NotFound(f"there is no view or service {name!r}", hint)
    return _view(library, library.any_view(name))


def _view_rows(view: FeatureView) -> list[Data]:
    dtypes = _dtypes(view)
    return [
        {
            "ref": f"{view.name}:{name}",
            "view": view.name,
            "feature": name,
            "dtype": dtypes.get(name, "?"),
            "entity": view.entity.name,
            "source": view.source.name,
            "owner": view.owner,
            "expression": written(feature),
            "columns": _columns(view, feature),
            "window": feature.window if isinstance(feature, Aggregation) else None,
            "hop": _hop(view, feature),
            "ttl": view.ttl,
            "tags": list(view.tags),
            "description": view.description,
            "deprecated": view.deprecated,
        }
        for name, feature in view.features.items()
    ]


def _request_rows(view: RequestView) -> list[Data]:
    return [
        {
            "ref": f"{view.name}:{name}",
            "view": view.name,
            "feature": name,
            "dtype": "?",
            "entity": "(request)",
            "source": "(request)",
            "owner": view.owner,
            "expression": written(feature),
            "columns": list(feature.names()),
            "window": None,
            "hop": None,
            "ttl": None,
            "tags": list(view.tags),
            "description": view.description,
            "deprecated": "",
        }
        for name, feature in view.features.items()
    ]


def _dtypes(view: FeatureView) -> dict[str, str]:
    try:
        return view.dtypes()
    except DefinitionError:
        # The source's table is not there yet, so its columns have no types.
        return {}


def _hop(view: FeatureView, feature: Aggregation | Expr) -> int | None:
    if not isinstance(feature, Aggregation) or feature.window is None:
        return None
    return hop_of(feature.window, view.hop)


def _columns(view: FeatureView, feature: Aggregation | Expr) -> list[str]:
    """The source columns that a feature is made of, through other features of the view."""
    if isinstance(feature, Aggregation):
        return list(feature.columns())
    found: list[str] = []
    for name in (n.removeprefix("@") for n in feature.names() if n.startswith("@")):
        found += _columns(view, view.features[name])
    return list(dict.fromkeys(found))


def _haystack(row: Data) -> str:
    named = ("ref", "entity", "source", "owner", "expression", "description")
    words = [str(row[name]) for name in named] + list(row["tags"]) + list(row["columns"])
    return " ".join(words).lower()


def _feature(library: Library, view: str, feature: str) -> Data:
    found = library.any_view(view)
    rows = _view_rows(found) if isinstance(found, FeatureView) else _request_rows(found)
    row = next((row for row in rows if row["feature"] == feature), None)
    if row is None:
        hint = did_you_mean(feature, [row["feature"] for row in rows], "features")
        raise NotFound(f"{view} has no feature {feature!r}", hint)
    return {**row, "fingerprint": found.fingerprint, "services": _services(library, view)}


def _view(library: Library, view: FeatureView | RequestView) -> Data:
    rows = _view_rows(view) if isinstance(view, FeatureView) else _request_rows(view)
    return {
        "view": view.name,
        "kind": type(view).__name__,
        "fingerprint": view.fingerprint,
        "owner": view.owner,
        "description": view.description,
        "tags": list(view.tags),
        **(_origin(view) if isinstance(view, FeatureView) else {"request": dict(view.request)}),
        "features": rows,
        "services": _services(library, view.name),
    }


def _origin(view: FeatureView) -> Data:
    source = view.source
    return {
        "entity": {"name": view.entity.name, "keys": list(view.entity.keys)},
        "source": {"name": source.name, "table": source.table, "stream": source.stream},
        "ttl": view.ttl,
        "deprecated": view.deprecated,
    }


def _service(library: Library, service: FeatureService) -> Data:
    return {
        "service": service.name,
        "owner": service.owner,
        "description": service.description,
        "clock": service.clock,
        "maxStaleness": service.max_staleness,
        "onStale": service.on_stale,
        "lag": service.lag,
        **_resolved(library, service),
    }


def _resolved(library: Library, service: FeatureService) -> Data:
    from features.plan import resolve

    plan = resolve(library, service)
    return {
        "fingerprint": plan.fingerprint,
        "keys": dict(plan.key_columns),
        "request": dict(plan.request_columns),
        "features": [{"column": o.column, "ref": o.ref, "dtype": o.dtype} for o in plan.outputs],
    }


def _services(library: Library, view: str) -> list[str]:
    return [s.name for s in library.services() if view in members_of(s)]
