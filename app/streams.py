"""The streams of an installation: their processors, opened from its parts, and their workers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.compose import Platform, platform_at
from app.errors import Conflict, NotFound
from features.definitions import FeatureView
from features.library import Library
from features.naming import did_you_mean
from features.sources import Source

if TYPE_CHECKING:
    from features.stream.log import EventLog
    from features.stream.processor import StreamProcessor


def streamed_source(library: Library, stream: str) -> Source:
    """The source that a stream feeds.

    Raises NotFound if there is none, Conflict if there are several: their schemas would differ.
    """
    streams = {source.stream: source for source in library.sources() if source.stream is not None}
    if stream not in streams:
        raise NotFound(f"no source has the stream {stream!r}", did_you_mean(stream, streams, ""))
    names = [source.name for source in library.sources() if source.stream == stream]
    if len(names) > 1:
        raise Conflict(
            f"the stream {stream!r} is that of {', '.join(names)}",
            "Give each source a stream of its own.",
        )
    return streams[stream]


def views_of(library: Library, source: Source) -> list[FeatureView]:
    """The views that a source feeds."""
    return [view for view in library.views() if view.source.name == source.name]


def open_processor(
    platform: Platform,
    source: Source,
    views: Sequence[FeatureView],
    partition: int,
    log: EventLog | None = None,
) -> StreamProcessor:
    """One partition's processor at its checkpoint; whoever gets it closes it.

    Raises Conflict if this process has it open already.
    """
    from features.stream.checkpoint import Checkpoint
    from features.stream.processor import StreamProcessor

    stream = str(source.stream)
    checkpoint = Checkpoint(platform.home.stream / stream / str(partition))
    try:
        return StreamProcessor(
            source,
            views,
            partition,
            log=log or platform.event_log(stream, source.partitions),
            checkpoint=checkpoint,
            store=platform.online(),
            lake=platform.lake(),
            future_tolerance=platform.settings.lake.future_tolerance_s * 1_000_000,
        )
    except BaseException:
        checkpoint.close()
        raise


def build_processor(home: str, stream: str, partition: int) -> StreamProcessor:
    """The processor of a stream as it is defined now; called in its worker's process."""
    platform = platform_at(Path(home))
    library = platform.library()
    source = streamed_source(library, stream)
    return open_processor(platform, source, views_of(library, source), partition)


def start_worker(platform: Platform, stream: str, partition: int) -> Any:
    """The worker of a log partition, started if it is not there."""
    from actors.online.stream_worker import start_stream_worker
    from app.plane import stream_actor

    settings = platform.settings.stream
    return start_stream_worker(
        stream_actor(stream, partition),
        partial(build_processor, str(platform.home.root), stream, partition),
        flush_s=settings.flush_s,
        land_s=settings.land_s,
    )
