"""The log on disk: one appender, many readers, crashes between them, segments."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from features.errors import Conflict, DamagedData, NotFound
from features.stream.embedded import EmbeddedLog
from features.testing import ManualClock

ROOT = Path(__file__).resolve().parent.parent.parent

APPENDING = """
import sys
from pathlib import Path
from features.clock import SystemClock
from features.stream.embedded import EmbeddedLog
log = EmbeddedLog(Path(sys.argv[1]), 1, SystemClock(), segment_bytes=4_000)
number = log.end(0) // 3
while number < int(sys.argv[2]):
    text = "x" * (number % 7 * 50)
    end = log.append(0, [{"number": number, "part": part, "text": text} for part in range(3)])
    print(end, flush=True)
    number += 1
sys.stdin.read()
"""


@contextmanager
def appending(root: Path, calls: int) -> Iterator[subprocess.Popen[str]]:
    """A process that appends three events a call, tells each end, and then waits."""
    command = [sys.executable, "-c", APPENDING, str(root), str(calls)]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


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


def check_whole_calls(log: EmbeddedLog, acknowledged: int) -> int:
    """Every acknowledged event is there, in order, and of the others only whole calls."""
    found = [
        (event.offset, event.row["number"], event.row["part"]) for event in log.read(0, 0, 10**6)
    ]
    assert found == [(n, n // 3, n % 3) for n in range(len(found))]
    assert len(found) % 3 == 0
    assert acknowledged <= len(found) == log.end(0)
    return len(found)


def test_a_killed_appender_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """kill -9 at random moments, over and over: no event lost, none twice, no call in part."""
    luck, there = random.Random(7), 0
    for _ in range(12):
        with appending(tmp_path, 10**9) as process:
            assert process.stdout is not None
            ends = [int(process.stdout.readline()) for _ in range(luck.randrange(1, 60))]
            process.kill()
            ends += [int(line) for line in process.stdout if line.endswith("\n")]
        assert ends[0] == there + 3
        there = check_whole_calls(opened(tmp_path), ends[-1])
    assert len(segments(tmp_path)) > 3


def test_readers_beside_an_appender_see_a_prefix(tmp_path: Path) -> None:
    """While another process appends, a reader sees whole calls, in order, and never fewer."""
    calls, before = 400, 0
    log = opened(tmp_path)
    with appending(tmp_path, calls) as process:
        while before < 3 * calls:
            assert process.poll() is None
            end = log.end(0)
            events = log.read(0, before, 10**6)
            assert len(events) >= end - before
            assert [e.row["number"] * 3 + e.row["part"] for e in events] == list(
                range(before, before + len(events))
            )
            assert len(events) % 3 == 0
            before += len(events)
    check_whole_calls(log, 3 * calls)


def test_a_second_appender_is_refused(tmp_path: Path) -> None:
    """It is told which process holds the partition, may read, and may append when that one died."""
    with appending(tmp_path, 1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        log = opened(tmp_path)
        with pytest.raises(Conflict, match=f"process {process.pid} already appends"):
            log.append(0, rows(7))
        assert log.end(0) == 3
    assert log.append(0, rows(7)) == 4


def test_a_lock_is_of_one_partition_and_ends_with_close(tmp_path: Path) -> None:
    """Others may append to other partitions at once, and to this one after ``close``."""
    first, second = (EmbeddedLog(tmp_path, 2, ManualClock()) for _ in range(2))
    first.append(0, rows(1))
    second.append(1, rows(2))
    with pytest.raises(Conflict):
        second.append(0, rows(3))
    first.close()
    assert second.append(0, rows(3)) == 2
    with pytest.raises(Conflict):
        first.append(0, rows(4))


def test_readers_that_open_do_not_disturb_the_appender(tmp_path: Path) -> None:
    """Opening a log mends nothing while somebody appends, and refuses nobody."""
    with opened(tmp_path) as log:
        for number in range(50):
            log.append(0, rows(number))
            assert numbers(opened(tmp_path)) == list(range(number + 1))


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_number_of_partitions_is_fixed(tmp_path: Path, partitions: int) -> None:
    """A log that was made with two partitions is opened with two."""
    EmbeddedLog(tmp_path, 2, ManualClock()).append(1, rows(1))
    with pytest.raises(Conflict, match=f"has 2 partitions, not {partitions}"):
        EmbeddedLog(tmp_path, partitions, ManualClock())
    assert EmbeddedLog(tmp_path, 2, ManualClock()).end(1) == 1


def test_segments_are_of_a_size(tmp_path: Path) -> None:
    """A segment that has reached it is followed by another, named after its first event."""
    log = opened(tmp_path, segment_bytes=200)
    for number in range(40):
        log.append(0, rows(number))
    sizes = [path.stat().st_size for path in segments(tmp_path)]
    assert len(sizes) > 4
    assert all(200 <= size < 300 for size in sizes[:-1])
    for path in segments(tmp_path)[1:]:
        assert log.read(0, int(path.stem), 1)[0].row == {"number": int(path.stem)}


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    """A gap between two segments is an error; events before the first are only no longer kept."""
    with opened(tmp_path, segment_bytes=200) as log:
        for number in range(40):
            log.append(0, rows(number))
    oldest, second, third = segments(tmp_path)[:3]
    oldest.unlink()
    for reader in (log, opened(tmp_path)):
        with pytest.raises(NotFound):
            reader.read(0, 0, 10)
        assert reader.read(0, int(second.stem), 1)[0].offset == int(second.stem)
        assert reader.offset_at(0, 0) == int(second.stem)
    third.unlink()
    with pytest.raises(DamagedData, match="begins with another"):
        opened(tmp_path).read(0, int(second.stem), 40)


def test_a_crash_between_two_segments(tmp_path: Path) -> None:
    """A new segment without an event, or one that was never finished, changes nothing."""
    with opened(tmp_path, segment_bytes=200) as log:
        while len(segments(tmp_path)) < 3:
            log.append(0, rows(log.end(0)))
        last, end = segments(tmp_path)[-1], log.end(0)
        mark = log.read(0, end - 1, 1)
    last.write_bytes(_emptied(last))
    last.with_name(f"{end + 5:020d}.part").write_bytes(b"half a seg")
    again = opened(tmp_path, segment_bytes=200)
    assert again.end(0) == end - 1
    assert again.offset_at(0, mark[0].appended_at + 1) == end - 1
    assert again.append(0, rows(end - 1)) == end
    assert numbers(again) == list(range(end))


def _emptied(path: Path) -> bytes:
    """The segment as it was before its first event."""
    from features.stream.segment import HEAD_BYTES, Place, encode_mark

    first = int(path.stem)
    return encode_mark(Place(first, HEAD_BYTES, ManualClock().now()), first).ljust(
        HEAD_BYTES, b"\0"
    )


def test_an_acknowledged_event_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call flushes once, after its records are in the file and before readers may see them."""
    log, reader = opened(tmp_path), opened(tmp_path)
    log.append(0, rows(1))
    path, seen = segments(tmp_path)[0], []
    size, flush = path.stat().st_size, os.fsync

    def watched(fd: int) -> None:
        seen.append((path.stat().st_size > size, reader.end(0)))
        flush(fd)

    monkeypatch.setattr(os, "fsync", watched)
    log.append(0, rows(*range(2, 1_000)))
    assert seen == [(True, 1)]
    assert reader.end(0) == 999


def test_following_the_end_reads_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind 20,000 events, one more costs a reader that event and the mark."""
    log, reader, bytes_read = opened(tmp_path), opened(tmp_path), [0]
    log.append(0, rows(*range(20_000)))
    assert len(reader.read(0, 0, 20_000)) == 20_000
    read = os.pread

    def counted(fd: int, size: int, position: int) -> bytes:
        data = read(fd, size, position)
        bytes_read[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    for number in range(20_000, 20_010):
        log.append(0, rows(number))
        assert reader.read(0, number, 100)[0].row == {"number": number}
    assert bytes_read[0] < 10 * 150
    bytes_read[0] = 0
    assert reader.read(0, 10_000, 1)[0].row == {"number": 10_000}
    assert bytes_read[0] < 200_000


def test_a_record_may_be_larger_than_any_buffer(tmp_path: Path) -> None:
    """Rows of several megabytes are read, with small ones round them."""
    log = opened(tmp_path, segment_bytes=1 << 20)
    texts = ["a", "b" * 3_000_000, "c", "d" * 70_000, "e"]
    for text in texts:
        log.append(0, [{"text": text}])
    assert [event.row["text"] for event in opened(tmp_path).read(0, 0, 9)] == texts
