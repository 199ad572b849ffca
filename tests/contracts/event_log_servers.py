"""What a log that a server keeps promises beside what every log does: the promises themselves.

A module of tests that imports all of it has the fixtures ``place`` and ``mortal``: a server that a
test may kill, and how to open a log there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import pytest

from features.clock import SystemClock
from features.errors import BadInput, Conflict, Unavailable
from features.stream.log import Event, EventLog
from tests.contracts.event_log import Place, numbered
from tests.properties.test_features_stream import (
    outcome,
    played,
    row,
    source,
    world,
)

TIMEOUT_S = 3.0
_ROUNDS = 3
_PATIENCE_S = 90.0


class Process(Protocol):
    """A server's process."""

    def kill(self) -> None:
        """Ends it as a crash would."""
        ...

    def freeze(self) -> None:
        """Stops it: nobody answers."""
        ...

    def thaw(self) -> None:
        """Lets it go on."""
        ...


class Server(Protocol):
    """A server whose data outlive it."""

    process: Process

    def start(self) -> None:
        """Starts it, with the data that it had."""
        ...


class Mortal(NamedTuple):
    """A server of a test's own, and how to open its one log of so many partitions."""

    server: Server
    open: Callable[[int], EventLog]


def every_way_to_ask(log: EventLog) -> list[Callable[[], Any]]:
    """A call of each method."""
    return [
        lambda: log.append(0, numbered(1)),
        lambda: log.append(0, []),
        lambda: log.read(0, 0, 10),
        lambda: log.end(0),
        lambda: log.offset_at(0, 1),
    ]


def refuses_in_time(ask: Callable[[], Any]) -> None:
    """It says Unavailable, with a hint, before the deadline and what a busy machine adds."""
    began = time.monotonic()
    with pytest.raises(Unavailable) as told:
        ask()
    assert time.monotonic() - began < 2 * TIMEOUT_S
    assert told.value.hint


def test_a_server_that_is_gone_is_told(mortal: Mortal) -> None:
    """Every call says Unavailable within its deadline, never that there are no events."""
    log = mortal.open(1)
    log.append(0, numbered(0))
    assert len(log.read(0, 0, 9)) == 1
    mortal.server.process.kill()
    for ask in every_way_to_ask(log):
        refuses_in_time(ask)
    mortal.server.start()
    end = settled(log)
    assert log.append(0, numbered(2)) == end + 1
    assert [event.row["number"] for event in log.read(0, 0, 9)][-1] == 2


def test_a_server_that_hangs_is_told(mortal: Mortal) -> None:
    """The same for one that keeps its connections and does not answer."""
    log = mortal.open(1)
    log.append(0, numbered(0))
    mortal.server.process.freeze()
    for ask in every_way_to_ask(log):
        refuses_in_time(ask)
    mortal.server.process.thaw()
    end = settled(log)
    assert [event.offset for event in log.read(0, 0, 9)] == list(range(end))
    assert log.append(0, numbered(2)) == end + 1


def test_a_log_that_cannot_be_opened_is_told(mortal: Mortal) -> None:
    """Opening one says Unavailable too, at once or when it is first asked."""
    mortal.server.process.kill()
    refuses_in_time(lambda: mortal.open(1).end(0))


def test_nothing_acknowledged_is_lost(mortal: Mortal) -> None:
    """The server is killed in the midst of appends and reads: all is there, once, in order."""
    story = Story(mortal)
    with ThreadPoolExecutor(2) as pool:
        writing, reading = pool.submit(story.write), pool.submit(story.read)
        try:
            for _ in range(_ROUNDS):
                story.wait_for_more(20)
                story.up.clear()
                mortal.server.process.kill()
                mortal.server.start()
                story.up.set()
            story.wait_for_more(20)
        finally:
            story.up.set()
            story.stop.set()
        written, read = writing.result(), reading.result()
    assert len(written) >= 3 * 20 * (_ROUNDS + 1)
    assert [event.row["number"] for event in read] == list(range(len(written)))
    assert [event.offset for event in read] == list(range(len(written)))
    times = [event.appended_at for event in read]
    assert times == sorted(times)
    assert mortal.open(1).read(0, 0, len(written) + 1) == read
    assert story.failures > 0


class Story:
    """One who appends and one who reads while the server dies and comes back."""

    def __init__(self, mortal: Mortal) -> None:
        self._mortal = mortal
        self._acknowledged = threading.Semaphore(0)
        self.up, self.stop = threading.Event(), threading.Event()
        self.up.set()
        self.failures = 0

    def wait_for_more(self, appends: int) -> None:
        """Returns after so many more were acknowledged."""
        for _ in range(appends):
            assert self._acknowledged.acquire(timeout=_PATIENCE_S)

    def write(self) -> list[int]:
        """Appends three rows at a time; one that failed is looked for before it is tried again."""
        log, end = self._mortal.open(1), 0
        while not self.stop.is_set():
            try:
                assert log.append(0, numbered(end, end + 1, end + 2)) == end + 3
                self._acknowledged.release()
                end += 3
            except Unavailable:
                self.failures += 1
                self.up.wait(_PATIENCE_S)
                found = settled(log)
                assert found in (end, end + 3)
                end = found
        return list(range(end))

    def read(self) -> list[Event]:
        """Reads on and on, to the end that there is once nobody appends."""
        log, found, is_last = self._mortal.open(1), list[Event](), False
        while not is_last or len(found) < settled(log):
            is_last = self.stop.is_set()
            try:
                found += log.read(0, len(found), 7)
            except Unavailable:
                self.up.wait(_PATIENCE_S)
        return found


def settled(log: EventLog) -> int:
    """The end of a log whose server was started again, once nothing is in doubt any more."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            log.append(0, [])
            return log.end(0)
        except Unavailable:
            if time.monotonic() > deadline:
                raise


def test_a_bad_row_does_not_need_the_server(mortal: Mortal) -> None:
    """It is refused for what it is."""
    log = mortal.open(1)
    mortal.server.process.kill()
    with pytest.raises(BadInput):
        log.append(0, [{"raw": b"bytes"}])


def test_writers_do_not_mix(place: Place) -> None:
    """Of several at once, what is acknowledged stands whole, once, in each one's order."""
    threads, appends = 3, 25

    def write(log: EventLog, writer: int) -> list[int]:
        done = []
        for number in range(appends):
            with suppress(Conflict):  # another one has the partition; this append was not made
                log.append(0, [{"writer": writer, "number": number, "part": p} for p in range(3)])
                done.append(number)
        return done

    with place() as make:
        logs = [make(1, SystemClock()) for _ in range(threads)]  # type: ignore[arg-type]
        with ThreadPoolExecutor(threads) as pool:
            acknowledged = list(pool.map(write, logs, range(threads)))
        events = make(1, SystemClock()).read(0, 0, 1_000)  # type: ignore[arg-type]
    assert [event.offset for event in events] == list(range(len(events)))
    assert [event.row["part"] for event in events] == [0, 1, 2] * (len(events) // 3)
    times = [event.appended_at for event in events]
    assert times == sorted(times)
    for writer, numbers in enumerate(acknowledged):
        assert [e.row["number"] for e in events[::3] if e.row["writer"] == writer] == numbers
    assert any(acknowledged)


STORY: list[tuple[Any, ...]] = [
    ("append", 0, [row(n) for n in range(5)], 100),
    ("append", 1, [row(n) for n in range(20, 26)], 3),
    ("step", 3, True),
    ("publish", 0, 50, True),
    ("append", 0, [row(1), row(2, at=-90_000), row(3, x="x"), row(4, known=9_000), row(9)], 500),
    ("append", 1, [row(21), row(31, at=1_000_500), row(30, at=1_000_100), row(32, n=2**62)], 500),
    ("step", 4, True),
    ("land",),
    ("restart",),
    ("publish", 0, 0, True),
    ("publish", 1, 200, False),
    ("append", 0, [row(n, n=2**62) for n in range(8, 30)], 500),
    ("restart",),
    ("step", 5, True),
    ("append", 1, [row(26 - n) for n in range(9)], 9_000),
]
"""Disorder, duplicates, late events, ones that nobody can read or add up, crashes, two views."""


def test_a_processor_does_not_see_which_log_it_is(place: Place) -> None:
    """Cells, tables and counts are those of a log in memory."""
    made = source(2, 8_000, "id")
    with place() as make, world(made, []) as plain, world(made, []) as found:
        found.log = make(2, found.clock)  # type: ignore[assignment]
        assert outcome(played(found, STORY)) == outcome(played(plain, STORY))


def test_a_replay_gives_the_same_bytes(place: Place) -> None:
    """A processor that begins at 0 in what is all there comes to what a log in memory gives."""
    made = source(2, 8_000, "id")
    with place() as make, world(made, []) as first, world(made, []) as plain:
        first.log = make(2, first.clock)  # type: ignore[assignment]
        played(first, STORY)
        for partition in range(2):
            for event in first.log.read(partition, 0, 1_000):
                plain.clock.set(event.appended_at)
                plain.log.append(partition, [event.row])
        expected = outcome(played(plain, REPLAY))
        for _ in range(2):
            with world(made, []) as again:
                again.clock.set(plain.clock.now())
                again.log = make(2, again.clock)  # type: ignore[assignment]
                assert outcome(played(again, REPLAY)) == expected


REPLAY: list[tuple[Any, ...]] = [
    ("step", 7, True),
    ("publish", 0, 5_000, True),
    ("publish", 1, 9_000, False),
    ("restart",),
    ("publish", 0, 0, False),
]
