"""The log on a bad disk: torn tails, flipped bytes, missing pieces, no room, failing calls."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from features.errors import DamagedData, Unavailable
from features.stream.embedded import EmbeddedLog
from features.testing import ManualClock

HEAD = 64
MARK = 36


def opened(root: Path, segment_bytes: int = 64 << 20) -> EmbeddedLog:
    """The log with one partition, opened anew."""
    return EmbeddedLog(root, 1, ManualClock(), segment_bytes=segment_bytes)


def rows(*numbers: int) -> list[dict[str, Any]]:
    """Rows told apart by a number, all of one length."""
    return [{"number": number} for number in numbers]


def numbers(log: EmbeddedLog) -> list[int]:
    """Every event's number."""
    return [event.row["number"] for event in log.read(0, 0, 1_000_000)]


def segments(root: Path) -> list[Path]:
    """The segments of partition 0."""
    return sorted((root / "0").glob("*.log"))


def write_log(root: Path) -> tuple[bytes, bytes]:
    """A log of two calls with two events each; the file after each."""
    with opened(root) as log:
        log.append(0, rows(1, 2))
        first = segments(root)[0].read_bytes()
        log.append(0, rows(3, 4))
    return first, segments(root)[0].read_bytes()


def test_a_torn_tail_is_cut_wherever_it_was_torn(tmp_path: Path) -> None:
    """A call that a crash cut at any byte is gone whole; a complete one is kept; appends go on."""
    first, both = write_log(tmp_path)
    path = segments(tmp_path)[0]
    for cut in range(len(first), len(both) + 1):
        path.write_bytes(first[:HEAD] + both[HEAD:cut])
        log = opened(tmp_path)
        kept = [1, 2, 3, 4] if cut == len(both) else [1, 2]
        assert numbers(log) == kept
        assert path.stat().st_size == (len(both) if cut == len(both) else len(first))
        log.append(0, rows(5))
        log.close()
        assert numbers(opened(tmp_path)) == [*kept, 5]


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\xff" * 500, bytes(range(256))])
def test_a_tail_of_garbage_is_cut(tmp_path: Path, tail: bytes) -> None:
    """Blocks that a power failure left unwritten are no events."""
    _, both = write_log(tmp_path)
    segments(tmp_path)[0].write_bytes(both + tail)
    assert numbers(opened(tmp_path)) == [1, 2, 3, 4]
    assert segments(tmp_path)[0].read_bytes() == both


def test_a_flipped_byte_of_an_unfinished_call_drops_the_call(tmp_path: Path) -> None:
    """Behind the mark a bad record is a torn one, and takes the rest of its call along."""
    first, both = write_log(tmp_path)
    for position in range(len(first), len(both)):
        damaged = bytearray(first[:HEAD] + both[HEAD:])
        damaged[position] ^= 0x10
        segments(tmp_path)[0].write_bytes(damaged)
        assert numbers(opened(tmp_path)) == [1, 2]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_damage(tmp_path: Path, flip: int) -> None:
    """A changed byte of any acknowledged record is an error that names file and event.

    The last record is no exception, and events before it can still be read.
    """
    _, both = write_log(tmp_path)
    path = segments(tmp_path)[0]
    size = (len(both) - HEAD) // 4
    for position in range(HEAD, len(both)):
        damaged = bytearray(both)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        log, event = opened(tmp_path), (position - HEAD) // size
        with pytest.raises(DamagedData, match=f"event {event} in {path}"):
            log.read(0, 0, 10)
        assert len(log.read(0, 0, event)) == event
    path.write_bytes(both)
    assert numbers(opened(tmp_path)) == [1, 2, 3, 4]


def test_a_damaged_mark_is_damage(tmp_path: Path) -> None:
    """Nobody reads or appends by a mark that is not what was written."""
    _, both = write_log(tmp_path)
    for position in range(MARK):
        damaged = bytearray(both)
        damaged[position] ^= 0x04
        segments(tmp_path)[0].write_bytes(damaged)
        for ask in (lambda log: log.end(0), lambda log: log.append(0, rows(5))):
            with pytest.raises(DamagedData, match="mark"):
                ask(opened(tmp_path))
    segments(tmp_path)[0].write_bytes(both)
    assert opened(tmp_path).append(0, rows(5)) == 5


def test_acknowledged_events_that_are_cut_off_are_damage(tmp_path: Path) -> None:
    """A file that is shorter than its mark says is never taken for a shorter log."""
    _, both = write_log(tmp_path)
    reader = opened(tmp_path)
    assert reader.end(0) == 4
    for cut in range(HEAD, len(both)):
        segments(tmp_path)[0].write_bytes(both[:cut])
        with pytest.raises(DamagedData):
            reader.read(0, 0, 10)
        for ask in (lambda log: log.end(0), lambda log: log.append(0, rows(5))):
            with pytest.raises(DamagedData):
                ask(opened(tmp_path))


def test_records_cannot_trade_places(tmp_path: Path) -> None:
    """Two records of one length, exchanged, are both damaged."""
    _, both = write_log(tmp_path)
    size = (len(both) - HEAD) // 4
    parts = [both[HEAD + n * size : HEAD + (n + 1) * size] for n in range(4)]
    segments(tmp_path)[0].write_bytes(both[:HEAD] + b"".join([parts[1], parts[0], *parts[2:]]))
    with pytest.raises(DamagedData, match="event 0 "):
        opened(tmp_path).read(0, 0, 10)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Nobody in this process may make a file larger than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_adds_nothing(tmp_path: Path) -> None:
    """A call for which there is no room is Unavailable, wherever it stops; later ones go on."""
    log = opened(tmp_path)
    log.append(0, rows(1, 2))
    path = segments(tmp_path)[0]
    size = path.stat().st_size
    for room in range(0, 60, 7):
        with files_up_to(size + room), pytest.raises(Unavailable):
            log.append(0, rows(3, 4))
        assert path.stat().st_size == size
        assert numbers(log) == numbers(opened(tmp_path)) == [1, 2]
    assert log.append(0, rows(5)) == 3
    assert numbers(opened(tmp_path)) == [1, 2, 5]


def test_a_full_disk_at_the_end_of_a_segment(tmp_path: Path) -> None:
    """Without room for a new segment the old one stays the last, until there is."""
    log = opened(tmp_path, segment_bytes=100)
    log.append(0, rows(1, 2, 3))
    with files_up_to(20), pytest.raises(Unavailable):
        log.append(0, rows(4))
    assert numbers(opened(tmp_path)) == [1, 2, 3]
    assert log.append(0, rows(5)) == 4
    assert numbers(opened(tmp_path)) == [1, 2, 3, 5]


def failing(times: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """A system call that fails at its n-th use, and at every later one until undone."""
    left = [times]

    def fail(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, "Input/output error")
        return call(*arguments)

    return fail


@pytest.mark.parametrize(
    ("names", "after"),
    [(("pwrite",), 0), (("pwrite",), 1), (("fsync",), 0), (("fsync", "ftruncate"), 0)],
)
def test_a_failing_disk_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], after: int
) -> None:
    """A write, flush or mark that fails is Unavailable, also if the clean-up fails at first."""
    log = opened(tmp_path)
    log.append(0, rows(1))
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, failing(after, getattr(os, name)))
        for _ in range(2):
            with pytest.raises(Unavailable):
                log.append(0, rows(2, 3))
            assert numbers(log) == [1]
    assert log.append(0, rows(4)) == 2
    log.close()
    assert numbers(opened(tmp_path)) == [1, 4]


def test_readers_say_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that the operating system refuses is Unavailable, not an empty log."""
    log = opened(tmp_path)
    log.append(0, rows(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing(0, os.pread))
        for ask in (lambda: log.read(0, 0, 1), lambda: log.end(0), lambda: log.offset_at(0, 0)):
            with pytest.raises(Unavailable):
                ask()
    assert numbers(log) == [1]
