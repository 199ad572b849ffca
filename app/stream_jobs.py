"""Files through a stream: into its log, and from there online and into the lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from app.compose import Platform
from app.errors import BadInput
from app.lifecycle.cluster import Cluster, connect
from app.online_jobs import answered
from app.streams import open_processor, running_worker, views_of
from features.library import Library
from features.offline.ingest import resolved_source
from features.sources import Source
from features.stream.log import EventLog
from features.stream.screen import OUTCOMES

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]
Stats = Mapping[str, Any]


def ingest_stream(
    platform: Platform, source: Source, files: Sequence[Path], again: bool, advance: Advance
) -> Data:
    """Appends files to the source's event log and returns when their rows are in the lake.

    With a cluster up its workers bring them there, else this process does. Raises BadInput for a
    source without a stream, and what ``append_files`` raises.
    """
    from features.stream.intake import append_files

    if source.stream is None:
        raise BadInput(f"source {source.name!r} has no stream", "Leave --stream out.")
    lake = platform.lake()
    source = resolved_source(lake, source, [Path(file) for file in files])
    folder = platform.home.log / str(source.stream) / "files"
    before = _brought_in(platform, source)
    with closing(_log(platform, source)) as log:
        done = append_files(log, source, files, folder, again=again, progress=advance)
    advance("landing", 0, 0)
    after = _brought_in(platform, source)
    counts = {outcome: after[outcome] - before[outcome] for outcome in OUTCOMES}
    known = source.table in lake.tables()
    return {
        "table": source.table,
        "rows": counts["accepted"],
        "refused": counts["refused"],
        "malformed": counts["malformed"],
        "late": counts["late"],
        "duplicates": counts["duplicates"],
        "snapshot": lake.describe(source.table).snapshot if known else None,
        "nothingToDo": not done.rows,
        "skipped": list(done.skipped),
        "ignored": list(done.ignored),
    }


def _log(platform: Platform, source: Source) -> Any:
    return platform.event_log(str(source.stream), source.partitions)


def _brought_in(platform: Platform, source: Source) -> dict[str, int]:
    """Brings what is in the log into the lake; returns what ever became of its events."""
    cluster = platform.cluster()
    with closing(_log(platform, source)) as log:
        told = (
            _by_this_process(platform, source, log)
            if cluster is None
            else _by_workers(cluster, source, log)
        )
    return {outcome: sum(stats[outcome] for stats in told) for outcome in OUTCOMES}


def _by_this_process(platform: Platform, source: Source, log: EventLog) -> list[Stats]:
    library = platform.library() if platform.home.catalog.exists() else Library()
    views, found = views_of(library, source), list[Stats]()
    for partition in range(source.partitions):
        with closing(open_processor(platform, source, views, partition, log)) as processor:
            processor.catch_up(log.end(partition), 0)
            processor.land()
            found.append(processor.stats())
    return found


def _by_workers(cluster: Cluster, source: Source, log: EventLog) -> list[Stats]:
    ray = connect(cluster)
    actors = [running_worker(ray, str(source.stream), p) for p in range(source.partitions)]
    told = answered(ray, [a.catch_up.remote(log.end(p), 0) for p, a in enumerate(actors)])
    answered(ray, [actor.land.remote() for actor in actors])
    return told
