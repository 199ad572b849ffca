"""The one process that appends to a partition: its lock, its writes, and what a crash left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from features.errors import Conflict, DamagedData
from features.stream.rows import Packed
from features.stream.segment import (
    HEAD_BYTES,
    NEVER,
    Place,
    encode_mark,
    encode_records,
    first_offset,
    read_mark,
    records,
    segment_path,
    segment_paths,
    storage,
)


class Appender:
    """Holds a partition's lock until it is closed or its process dies.

    Making one raises Conflict if another one holds the lock.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        with storage(folder), _gate(folder):
            self._lock = _locked(folder)
            try:
                self._path = _settled(folder)
                self._file = self._path.open("r+b", buffering=0)
                self._end = read_mark(self._file.fileno(), self._path)
            except BaseException:
                self._lock.close()
                raise
        self._dirty = False

    def append(self, rows: Sequence[Packed], now: int) -> int:
        """Writes rows, makes them durable, and returns the offset after the last one.

        Raises Unavailable if the storage fails; the file is then as it was before.
        """
        with storage(self._path):
            self._clean()
            if self._end.position >= self._segment_bytes and self._end.position > HEAD_BYTES:
                self._roll()
            data, end = encode_records(rows, self._end, max(now, self._end.before))
            self._dirty = True
            try:
                self._write(data, end)
            except OSError:
                with suppress(OSError):  # the next append tries it again, before anything else
                    self._clean()
                raise
            self._dirty = False
            self._end = end
        return end.offset

    def close(self) -> None:
        """Lets somebody else append."""
        self._file.close()
        self._lock.close()

    def _write(self, data: bytes, end: Place) -> None:
        fd = self._file.fileno()
        _write_all(fd, data, self._end.position)
        os.fsync(fd)
        _write_all(fd, encode_mark(end, first_offset(self._path)), 0)

    def _clean(self) -> None:
        """Takes away what an append that failed may have left."""
        if self._dirty:
            fd = self._file.fileno()
            _write_all(fd, encode_mark(self._end, first_offset(self._path)), 0)
            os.ftruncate(fd, self._end.position)
            self._dirty = False

    def _roll(self) -> None:
        os.fsync(self._file.fileno())  # the mark of a segment that is followed must be its last
        path = _new_segment(self._folder, self._end.offset, self._end.before)
        file = path.open("r+b", buffering=0)
        self._file.close()
        self._path, self._file = path, file
        self._end = self._end._replace(position=HEAD_BYTES)


def settle(folder: Path) -> None:
    """Puts a partition in order that nobody appends to: makes it, or mends what a crash left."""
    with storage(folder), _gate(folder), suppress(Conflict), _locked(folder):
        _settled(folder)


@contextmanager
def alone(folder: Path) -> Iterator[list[Path]]:
    """The segments of a partition that nobody appends to meanwhile, mended.

    Raises Conflict if somebody does.
    """
    with storage(folder):
        with _gate(folder):
            lock = _locked(folder)
        with lock:
            _settled(folder)
            yield segment_paths(folder)


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Makes asking for the lock and mending one step: who only mends must not refuse anybody."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gate").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locked(folder: Path) -> BinaryIO:
    file = (folder / "appender").open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().decode(errors="replace") or "another process"
        file.close()
        raise Conflict(
            f"{holder} already appends to {folder}",
            "one process at a time may append to a partition: go through it, or end it",
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()}".encode())
    return file


def _settled(folder: Path) -> Path:
    """The last segment, its mark behind the last append that is whole and nothing after it."""
    paths = segment_paths(folder)
    if not paths:
        return _new_segment(folder, 0, NEVER)
    with paths[-1].open("r+b", buffering=0) as file:
        _mend(file.fileno(), paths[-1])
    return paths[-1]


def _mend(fd: int, path: Path) -> None:
    mark, size = read_mark(fd, path), os.fstat(fd).st_size
    if size < mark.position:
        raise DamagedData(
            f"{path} ends at byte {size}, before event {mark.offset - 1} is complete",
            "restore the file from a copy; events that were acknowledged are missing",
        )
    if size == mark.position:
        return
    end = _end_of_whole_appends(fd, path, mark, size)
    os.ftruncate(fd, end.position)
    os.fsync(fd)
    _write_all(fd, encode_mark(end, first_offset(path)), 0)


def _end_of_whole_appends(fd: int, path: Path, mark: Place, size: int) -> Place:
    end = mark
    # What is not whole behind the mark was torn by a crash and never acknowledged.
    with suppress(DamagedData):
        for record in records(fd, path, mark, size):
            if record.last:
                end = record.after
    return end


def _new_segment(folder: Path, first: int, before: int) -> Path:
    path = segment_path(folder, first)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(encode_mark(Place(first, HEAD_BYTES, before), first).ljust(HEAD_BYTES, b"\0"))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(folder)
    return path


def sync_folder(folder: Path) -> None:
    """Brings a folder's list of files to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written
