"""LMDB files: opened once in a process, built whole, removed; and what their errors mean."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
import weakref
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from features.errors import FeatureError, Unavailable
from features.online.lmdb.cells import stored_key
from features.online.sealing import damaged, sealed_cell
from features.online.store import Cell

_TAIL_BYTES = 1 << 30  # doubled while a tail is built, as often as it takes
_CHUNK_BYTES = 16 << 20
_SPARE = 8  # read transactions that are kept for the next read: ten times faster than new ones

_OPEN_ALREADY = "already open in this process"
_CLOSING_TRIES, _CLOSING_SECONDS = 100, 0.01

_DAMAGED = (
    FileNotFoundError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)

# LMDB forbids to open a file twice in a process, and two stores may have the same root.
_ENVIRONMENTS: weakref.WeakValueDictionary[tuple[int, int], Any] = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


def build_tail(path: Path, cells: Iterable[Cell]) -> int:
    """Fills a new file and returns its number of cells, once all is on the disk."""
    with _open(path, map_size=_TAIL_BYTES, lock=False, sync=False) as environment:
        for chunk in _chunks(cells):
            while not _added(environment, chunk):
                environment.set_mapsize(2 * environment.info()["map_size"])
        environment.sync(True)
        sync_folder(path.parent)
        return int(environment.stat()["entries"])


def copy_without(environment: Any, path: Path, unwanted: Collection[bytes]) -> None:
    """Fills a new file with all that another has but some stored keys, and brings it to the disk.

    LMDB's own compacting copy takes over whole pages, with what was deleted from them.
    """
    with (
        _open(path, map_size=_TAIL_BYTES, lock=False, sync=False) as copy,
        environment.begin(buffers=False) as txn,
    ):
        for chunk in _stored_chunks(txn, unwanted):
            while not _added(copy, chunk):
                copy.set_mapsize(2 * copy.info()["map_size"])
        copy.sync(True)
    sync_folder(path.parent)


def _stored_chunks(txn: Any, unwanted: Collection[bytes]) -> Iterator[list[tuple[bytes, bytes]]]:
    chunk: list[tuple[bytes, bytes]] = []
    size = 0
    for key, cell in txn.cursor():
        if key not in unwanted:
            chunk.append((key, cell))
            size += len(key) + len(cell)
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _added(environment: Any, chunk: list[tuple[bytes, bytes]]) -> bool:
    try:
        with environment.begin(write=True) as txn:
            for key, cell in chunk:
                txn.put(key, cell)
    except lmdb.MapFullError:
        return False
    return True


def _chunks(cells: Iterable[Cell]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Cells as they are stored, some MiB at a time, sorted because LMDB then splits fewer pages."""
    chunk: dict[bytes, bytes] = {}
    size = 0
    for key, cell in cells:
        chunk[stored_key(key)] = sealed_cell(key, cell)
        size += len(key) + len(cell)
        if size >= _CHUNK_BYTES:
            yield sorted(chunk.items())
            chunk, size = {}, 0
    yield sorted(chunk.items())


def open_environment(path: Path, *, create: bool = False, **options: Any) -> Any:
    """The one environment of a file in this process; FileNotFoundError if it is not there."""
    with _OPENING:
        known = _ENVIRONMENTS.get(_identity(path)) if path.exists() else None
        if known is not None:
            return known
        if not create:
            path.stat()
        opened = _opened(path, options)
        if not (create or options.get("readonly") or opened.stat()["entries"]):
            # LMDB creates what was removed a moment ago; what was kept is not without entries.
            opened.close()
            remove(path)
            raise _not_there(path)
        _ENVIRONMENTS[_identity(path)] = opened
        return opened


def _opened(path: Path, options: dict[str, Any]) -> Any:
    try:
        return _open(path, max_spare_txns=_SPARE, **options)
    except lmdb.Error as error:
        if error.code == errno.ENOENT:
            raise _not_there(path) from error
        raise


def _open(path: Path, **options: Any) -> Any:
    """Opens a file that this process does not have open.

    The binding knows open files by their inode, and while another thread closes one, its inode may
    already be that of a new file: for that moment the new one looks open.
    """
    for _ in range(_CLOSING_TRIES):
        try:
            return lmdb.open(str(path), subdir=False, mode=0o644, **options)
        except lmdb.Error as error:
            if _OPEN_ALREADY not in str(error):
                raise
        time.sleep(_CLOSING_SECONDS)
    return lmdb.open(str(path), subdir=False, mode=0o644, **options)


def _not_there(path: Path) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def is_locked(path: Path) -> bool:
    """Whether somebody is building this file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove(path: Path) -> None:
    """Removes a file and its lock file, or finds them gone."""
    # The lock file last: who opens the two in the other order never meets a new lock, old data.
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-lock").unlink(missing_ok=True)


def checksum_of(path: Path) -> int:
    """The CRC-32 of a whole file."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def sync_folder(path: Path) -> None:
    """Brings a folder's list of files to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def answers(what: str) -> Iterator[None]:
    """Turns the errors of LMDB and of the disk into ours."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise translated(what, error) from error


def translated(what: str, error: Exception) -> FeatureError:
    """DamagedData if what was stored is not there or not readable, else Unavailable."""
    if isinstance(error, _DAMAGED):
        return damaged(what)
    if isinstance(error, lmdb.MapFullError):
        return Unavailable(f"{what} is full: {error}", "Materialize the view more often.")
    return Unavailable(f"{what} cannot be reached: {error}", "Is the disk full or read-only?")
