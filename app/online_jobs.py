"""What the online commands do: views brought online, values read, served values checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from app.compose import Platform
from app.errors import NotFound, Unavailable
from app.lifecycle.cluster import NAMESPACE, Cluster, connect
from app.plane import PREDICTIONS, stream_actor
from app.served_log import logged_rows
from features.definitions import FeatureView
from features.library import Library
from features.offline.join import columns_read, join_table, read_snapshots, scan_as_of
from features.offline.lake import OFFSET, PARTITION
from features.online import Served
from features.online.consistency import ConsistencyReport, check_consistency
from features.online.materialize import materialize as materialize_view
from features.online.reader import FeatureReader
from features.online.store import Version
from features.plan import ServicePlan, resolve
from serving.explain import provenance
from serving.plan import RequestShape, request_shape

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]
_ANSWER_SECONDS = 300.0


def materialize(platform: Platform, view: FeatureView, cut: int, advance: Advance) -> Data:
    """Brings a view online as a new version; its stream's workers fill the heads first."""
    cluster = platform.cluster()
    done = materialize_view(
        view,
        platform.lake(),
        platform.online(),
        cut,
        now=platform.clock.now(),
        start_heads=None if cluster is None else _head_starter(cluster, view),
        progress=advance,
    )
    version = done.version
    return {"view": version.view, "version": version.number, "cut": cut, "keys": done.keys}


def get_online(
    platform: Platform, plan: ServicePlan, row: Data, q: int | None, explain: bool
) -> Data:
    """Online values of one row; what only the past can answer is answered by the offline engine."""
    asked = plan if q is None else replace(plan, clock="replay")
    moment = platform.clock.now() if q is None else q
    reader = FeatureReader(asked, platform.online(), cache_us=0, clock=platform.clock)
    shape = request_shape(plan)
    whole = {name: row.get(name) for name in (*plan.key_columns, *plan.request_columns)}
    (served,) = reader.read([whole], [moment])
    if q is not None and "error" in served.states:
        return _offline(platform, plan, shape, whole, q, explain)
    answer: Data = {
        "values": shape.named(served.values),
        "states": dict(zip(shape.outputs, served.states, strict=True)),
    }
    return answer | ({"provenance": provenance(shape, served, served.at)} if explain else {})


def check(platform: Platform, library: Library, service: str, advance: Advance) -> Data:
    """Compares everything that was served and logged with what offline makes of it.

    Raises NotFound if nothing of the service was logged.
    """
    plan, lake = resolve(library, service), platform.lake()
    advance("landing what is in memory", 0, 3)
    land(platform, library)
    logged = logged_rows(lake, plan)
    if logged is None:
        raise NotFound(
            f"no prediction of service {service!r} is in the log",
            "Predict first, by a model that reads this service.",
        )
    advance("reading events", 1, 3)
    snapshots = read_snapshots(plan, lake)
    sources = {
        name: scan_as_of(lake, table, snapshots[table], [*columns, PARTITION, OFFSET])
        for name, (table, columns) in columns_read(plan).items()
    }
    advance("recomputing", 2, 3)
    report = check_consistency(plan, sources, logged)
    advance("done", 3, 3)
    return _checked(service, report)


def land(platform: Platform, library: Library) -> dict[str, int]:
    """Brings streams and prediction log from memory into the lake; rows by stream or table.

    Nothing is in memory while nothing is up.
    """
    from serving.on_ray import flush_predictions, predictor_handle

    cluster = platform.cluster()
    if cluster is None:
        return {}
    ray = connect(cluster)
    flush_predictions(predictor_handle())
    names = [PREDICTIONS, *_workers(library)]
    calls = [_actor(ray, PREDICTIONS).commit.remote()]
    calls += [_actor(ray, name).land.remote() for name in names[1:]]
    return {n: _rows(a) for n, a in zip(names, answered(ray, calls), strict=True)}


def answered(ray: Any, calls: list[Any]) -> list[Any]:
    """The answers of actors. Raises Unavailable if one takes too long."""
    from ray.exceptions import GetTimeoutError

    try:
        return list(ray.get(calls, timeout=_ANSWER_SECONDS))
    except GetTimeoutError:
        raise Unavailable(
            f"a worker did not answer in {_ANSWER_SECONDS:g} s", "Look: tondo status"
        ) from None


def _head_starter(cluster: Cluster, view: FeatureView) -> Callable[[Version], None]:
    def start(version: Version) -> None:
        ray = connect(cluster)
        names = [stream_actor(str(view.source.stream), p) for p in range(version.partitions)]
        answered(ray, [_actor(ray, n).start_head.remote(asdict(version)) for n in names])

    return start


def _actor(ray: Any, name: str) -> Any:
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise Unavailable(f"{name} does not run", "Look at it with: tondo status") from None


def _workers(library: Library) -> list[str]:
    streams = {s.stream: s.partitions for s in library.sources() if s.stream is not None}
    return [stream_actor(stream, p) for stream, count in streams.items() for p in range(count)]


def _rows(answer: Mapping[str, Any] | int) -> int:
    if isinstance(answer, int):
        return answer
    return sum(value for value in answer.values() if isinstance(value, int))


def _offline(
    platform: Platform, plan: ServicePlan, shape: RequestShape, row: Data, q: int, explain: bool
) -> Data:
    types = {**plan.key_columns, **plan.request_columns, "__at": "time"}
    from features.dtypes import to_arrow

    given = {**row, "__at": q}
    spine = pa.table({n: pa.array([given[n]], to_arrow(dtype)) for n, dtype in types.items()})
    lake = platform.lake()
    snapshots = read_snapshots(plan, lake)
    found = join_table(plan, lake, spine, time_column="__at", snapshots=snapshots)
    values = [_plain(found.column(output.column)) for output in plan.outputs]
    states = ["empty" if value is None else "value" for value in values]
    answer: Data = {
        "values": shape.named(values),
        "states": dict(zip(shape.outputs, states, strict=True)),
    }
    if explain:
        served = Served(values, states, ["none"] * len(values), {}, q)
        sources = provenance(shape, served, q)
        answer["provenance"] = sources
        answer["offline"] = {"snapshots": dict(snapshots)}
    return answer


def _plain(column: pa.ChunkedArray) -> Any:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())[0].as_py()
    value = column[0].as_py()
    return dict(value) if pa.types.is_map(column.type) and value is not None else value


def _checked(service: str, report: ConsistencyReport) -> Data:
    gaps = report.gaps
    shares = {"p50": 50, "p99": 99, "max": 100}
    return {
        "service": service,
        "rows": report.rows,
        "values": report.values,
        "mismatches": report.mismatches,
        "differences_at_q": report.differences,
        "gap": {n: float(np.percentile(gaps, p)) if len(gaps) else None for n, p in shares.items()},
        "columns": [
            {
                "column": c.column,
                "values": c.rows,
                "both_null": c.both_null,
                "served_null": c.served_null,
                "recomputed_null": c.recomputed_null,
                "different": c.different,
                "smape": c.smape,
                "differences_at_q": later.mismatches,
            }
            for c, later in zip(report.at_position, report.at_time, strict=True)
        ],
    }
