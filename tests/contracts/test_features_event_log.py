"""The logs that need no server keep what every event log promises."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from features.stream.embedded import EmbeddedLog
from features.stream.log import EventLog
from features.stream.memory import MemoryLog
from features.testing import ManualClock
from tests.contracts import event_log as promises
from tests.contracts import event_log_erasure as erasure_promises
from tests.contracts.event_log import *  # noqa: F403
from tests.contracts.event_log import Make, Place
from tests.contracts.event_log_erasure import *  # noqa: F403

SEGMENT_BYTES = {"embedded": 64 << 20, "embedded in small segments": 300}


@contextmanager
def in_memory() -> Iterator[Make]:
    """A log in memory: it is gone with whoever made it."""
    yield MemoryLog


@contextmanager
def on_disk(segment_bytes: int) -> Iterator[Make]:
    """A folder for a log with segments of a size."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:

        def make(partitions: int, clock: ManualClock) -> EventLog:
            log = EmbeddedLog(Path(folder), partitions, clock, segment_bytes=segment_bytes)
            return opened.enter_context(closing(log))

        yield make


@pytest.fixture(scope="module", params=["memory", *SEGMENT_BYTES])
def place(request: pytest.FixtureRequest) -> Place:
    """Each implementation in turn."""
    if request.param == "memory":
        return in_memory
    return lambda: on_disk(SEGMENT_BYTES[request.param])


@pytest.fixture(scope="module", params=SEGMENT_BYTES)
def lasting(request: pytest.FixtureRequest) -> Place:
    """Each implementation that outlives its process."""
    return lambda: on_disk(SEGMENT_BYTES[request.param])


@given(promises.BATCHES)
def test_any_rows_survive(place: Place, batches: list[list[dict[str, Any]]]) -> None:
    """Whatever is appended, in whatever pieces, is read as it was."""
    promises.any_rows_survive(place, batches)


@given(promises.BATCHES, erasure_promises.CHOSEN)
def test_erased_are_gone(
    place: Place, batches: list[list[dict[str, Any]]], chosen: list[int]
) -> None:
    """Of any rows any may be erased; all others are read as they were."""
    erasure_promises.erased_are_gone(place, batches, chosen)


@given(promises.APPENDS, promises.QUESTIONS)
def test_times_lead_to_offsets(
    place: Place, appends: list[tuple[int, int]], questions: list[int]
) -> None:
    """``offset_at`` is the first event at that time or later, as a scan of a list would find it."""
    promises.times_lead_to_offsets(place, appends, questions)


@given(promises.SIZES, promises.READS)
def test_reads_anywhere_agree(place: Place, sizes: list[int], reads: list[tuple[int, int]]) -> None:
    """Reads at any offset, in any order, between appends, are slices of one list."""
    promises.reads_anywhere_agree(place, sizes, reads)
