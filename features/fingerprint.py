"""What a definition means, apart from what is said about it and how it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from features.definitions import FeatureView, RequestView, Source
from features.plan import ServicePlan
from features.serial import canonical, to_data

ABOUT = frozenset({"description", "owner", "tags", "deprecated"})
"""Fields that say something about a definition without changing what it means."""
_LAYOUT = frozenset({"bucket_by", "partitions"})


def fingerprint_of(thing: Any) -> str:
    """Twelve hex digits of SHA-256 over the canonical JSON of the meaning."""
    return hashlib.sha256(canonical(meaning(thing))).hexdigest()[:12]


def meaning(thing: Any) -> Any:
    """The data of a definition or plan that decides its values.

    Of a source's schema a view keeps the columns it reads, so a new column changes no view.
    """
    if isinstance(thing, FeatureView):
        return _view(thing)
    if isinstance(thing, RequestView):
        return {**silent(to_data(thing)), "features": _sorted(thing.features)}
    if isinstance(thing, ServicePlan):
        return _plan(thing)
    return silent(to_data(thing))


def silent(data: Any) -> Any:
    """Stored data without the texts about it."""
    if isinstance(data, Mapping):
        return {k: silent(v) for k, v in data.items() if not ("is" in data and k in ABOUT)}
    return [silent(item) for item in data] if isinstance(data, list) else data


def _sorted(features: Mapping[str, Any]) -> list[Any]:
    return sorted([name, silent(to_data(feature))] for name, feature in features.items())


def _view(view: FeatureView) -> Any:
    data = silent(to_data(view))
    return {**data, "source": _source(view), "features": _sorted(view.features)}


def _source(view: FeatureView) -> Any:
    source: Source = view.source
    data = {k: v for k, v in silent(to_data(source)).items() if k not in _LAYOUT}
    if source.schema is not None:
        read = set(view.columns_read())
        data["schema"] = sorted([n, dtype] for n, dtype in source.schema.items() if n in read)
    return data


def _plan(plan: ServicePlan) -> Any:
    data = silent(to_data(plan))
    views = [
        {**part, "view": meaning(view_plan.view)}
        for part, view_plan in zip(data["views"], plan.views, strict=True)
    ]
    return {**data, "views": views}
