"""The point-in-time join on Ray Data: every stage a dataset, one task per bucket or part."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import ray

from features.offline.iceberg import IcebergLake
from features.offline.ingest import Progress
from features.offline.join import JoinReport, joined_by_stages, read_snapshots, sides_of
from features.offline.outputs import check_output
from features.offline.spine import EVENT_TIME
from features.on_ray.runner import RayRunner
from features.plan import ServicePlan


def join_on_ray(
    plan: ServicePlan,
    lake_root: str | Path,
    spine: pa.Table | str | Path,
    time_column: str = EVENT_TIME,
    *,
    inclusive: bool = False,
    out: str | Path,
    snapshots: dict[str, int] | None = None,
    progress: Progress | None = None,
) -> JoinReport:
    """Joins a spine as ``join_local`` does, with the same answer, by tasks of the Ray cluster.

    Lake, spine and output must be on a disk that all nodes share. Only paths and counts come back
    to the caller.
    """
    started, path, lake = time.monotonic(), Path(out).absolute(), IcebergLake(lake_root)
    check_output(path)
    read = read_snapshots(plan, lake, snapshots)
    sides = sides_of(plan, lake, read) or {}
    workers = int(ray.cluster_resources().get("CPU", 1))
    given = spine if isinstance(spine, pa.Table) else Path(spine).absolute()
    run = RayRunner(f"join:{plan.name}", progress)
    rows = joined_by_stages(plan, sides, given, path, time_column, inclusive, run, workers=workers)
    return JoinReport(str(path), rows, time.monotonic() - started, read)
