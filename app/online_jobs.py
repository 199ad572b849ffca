"""What the online commands do: views brought online, values read, served values checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.compose import Platform
from app.errors import NotFound, Unavailable
from app.lifecycle.cluster import NAMESPACE, Cluster, connect
from app.plane import PREDICTIONS, stream_actor
from app.served_log import logged_rows
from features.definitions import FeatureView
from features.dtypes import to_arrow
from features.library import Library
from features.offline.join import columns_read, read_snapshots, scan_as_of
from features.offline.lake import OFFSET, PARTITION, Lake
from features.online import Served
from features.online.consistency import ConsistencyReport, check_consistency
from features.online.materialize import events_before, tail_cells, view_id
from features.online.materialize import materialize as materialize_view
from features.online.memory import MemoryStore
from features.online.reader import FeatureReader
from features.online.store import Cell, Version
from features.plan import ServicePlan, ViewPlan, resolve
from features.sources import Source
from serving.explain import provenance
from serving.plan import RequestShape, request_shape

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]
_ANSWER_SECONDS = 300.0


def materialize(platform: Platform, view: FeatureView, cut: int, advance: Advance) -> Data:
    """Brings a view online as a new version; its stream's workers fill the heads first."""
    cluster = platform.cluster()
    if cluster is not None:
        _land_stream(cluster, view.source)
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
    if q is not None and not _is_answered(plan, served):
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
    from serving.on_ray import flush_predictions, predictor_handle, quiet

    cluster = platform.cluster()
    if cluster is None:
        return {}
    ray = connect(cluster)
    quiet()
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


def _land_stream(cluster: Cluster, source: Source) -> None:
    """What was streamed before the cut must be in the lake: the heads begin at the cut."""
    if source.stream is None:
        return
    ray = connect(cluster)
    names = [stream_actor(source.stream, p) for p in range(source.partitions)]
    answered(ray, [_actor(ray, name).land.remote() for name in names])


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


def _is_answered(plan: ServicePlan, served: Served) -> bool:
    """Whether every view could be asked: of one that could not, everything is an error."""
    states: dict[str, list[str]] = {}
    for output, state in zip(plan.outputs, served.states, strict=True):
        states.setdefault(output.view, []).append(state)
    roles = [view.role for view in plan.views]
    if any(role not in states for role in roles):
        return "error" not in served.states
    return not any(set(states[role]) == {"error"} for role in roles)


def _offline(
    platform: Platform, plan: ServicePlan, shape: RequestShape, row: Data, q: int, explain: bool
) -> Data:
    """What an online store would have answered that was filled a moment before."""
    lake, store = platform.lake(), MemoryStore()
    snapshots = read_snapshots(plan, lake)
    for version, cells in _tails(plan, lake, snapshots, row, q):
        store.write_tail(version, cells)
        store.publish(version)
    reader = FeatureReader(plan, store, cache_us=0, clock=platform.clock)
    (found,) = reader.read([row], [q])
    served = replace(found, positions={})
    answer: Data = {
        "values": shape.named(served.values),
        "states": dict(zip(shape.outputs, served.states, strict=True)),
    }
    if explain:
        answer["provenance"] = provenance(shape, served, q)
        answer["offline"] = {"snapshots": dict(snapshots)}
    return answer


def _tails(
    plan: ServicePlan, lake: Lake, snapshots: Mapping[str, int], row: Data, q: int
) -> Iterator[tuple[Version, list[Cell]]]:
    """Every view once, with the cells of the entities that a row is about, as of ``q``."""
    roles: dict[str, list[ViewPlan]] = {}
    for role in plan.views:
        roles.setdefault(view_id(role.view), []).append(role)
    for name, views in roles.items():
        view, snapshot = views[0].view, snapshots[views[0].view.source.table]
        events = events_before(view, lake, snapshot, q)
        keys = [[row[column] for column in role.key_columns] for role in views]
        mine = reduce(pc.or_, [_of_entity(events, view, key) for key in keys])
        yield Version(name, 1, q, 0, snapshot), list(tail_cells(view, events.filter(mine), q))


def _of_entity(events: pa.Table, view: FeatureView, key: Sequence[Any]) -> pa.ChunkedArray:
    """Which events are of one entity; a null key is nobody's."""
    wanted = zip(view.entity.keys, view.entity.types, key, strict=True)
    parts = [
        pc.equal(events.column(name), pa.scalar(part, to_arrow(dtype)))
        for name, dtype, part in wanted
    ]
    return pc.fill_null(reduce(pc.and_, parts), False)


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
