"""An online store in LMDB files, read in place by every process of the node.

Layout under the root: ``versions.lmdb`` says which versions there are and in which files; a tail
and each partition's head are files of their own, with names that never return. A file counts once
``versions.lmdb`` names it, so a crash leaves whole versions only, and what it left over is removed
by the next write. Readers look at the number of the last transaction in ``versions.lmdb`` before
each read: what was published is visible to the next read in every process.

A file that is removed stays readable where it is open, and is closed there by the next read.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from features.errors import DamagedData
from features.online.catalog import (
    Entries,
    Entry,
    TailFile,
    decode,
    dropped,
    encode,
    entry_of,
    files,
    promoted,
    published,
    with_head,
    with_tail,
)
from features.online.lmdb.cells import (
    HeadFile,
    Moment,
    VersionFiles,
    find,
    stored_key,
    write_to_head,
)
from features.online.lmdb.erasure import Erasure
from features.online.lmdb.files import (
    answers,
    build_tail,
    checksum_of,
    is_locked,
    open_environment,
    remove,
    sync_folder,
    translated,
)
from features.online.rules import check_partition, no_tail, version_at
from features.online.sealing import damaged, sealed_cell
from features.online.store import Cell, Found, Head, Version

HEAD_BYTES = 16 << 30
"""How large one partition's head may become. The file is as large as what is in it."""

_CATALOG_BYTES = 1 << 30
_READERS = 1024


@dataclass(slots=True)
class _Serving:
    """The open files of a view's current version, and of the one before once they are wanted."""

    current: VersionFiles
    published: tuple[Version, ...]
    open_previous: Callable[[], VersionFiles]
    previous: VersionFiles | None = None

    def at(self, at: int) -> VersionFiles:
        """The version that answers for a time, UTC µs."""
        current = self.current
        if at >= current.version.cut or version_at(self.published, at) == current.version:
            return current
        if self.previous is None:
            self.previous = self.open_previous()
        return self.previous


@dataclass(slots=True)
class _State:
    """What ``versions.lmdb`` said in its transaction ``number``."""

    number: int = -1
    raw: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, Entries] = field(default_factory=dict)
    serving: dict[str, _Serving] = field(default_factory=dict)

    def of(self, view: str) -> Entries:
        """A view's versions; DamagedData if they cannot be read."""
        key = stored_key(view.encode())
        found = self.entries.get(key)
        if found is None and key in self.raw:
            return decode(self.raw[key])
        return found or ()


class LmdbStore:
    """Implements OnlineStore for the processes of one node.

    Each head has one writing process at a time. Everything that is written is on the disk when the
    call returns. Damaged cells raise DamagedData, a disk that is full Unavailable.
    """

    def __init__(self, root: Path, *, head_bytes: int = HEAD_BYTES) -> None:
        self._root = root
        self._head_bytes = head_bytes
        self._environments: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._state = _State()
        with answers(f"The online store {root}"):
            root.mkdir(parents=True, exist_ok=True)
            self._catalog = open_environment(
                root / "versions.lmdb",
                create=True,
                map_size=_CATALOG_BYTES,
                max_readers=_READERS,
            )
            self._catalog.reader_check()

    def write_tail(self, version: Version, cells: Iterable[Cell]) -> int:
        """Keeps the whole tail of a version and returns its number of cells."""
        with answers(f"The tail of {version.view}"), self._new_file(version) as path:
            number = build_tail(path, cells)
            tail = TailFile(path.name, path.stat().st_size, checksum_of(path))
            self._change(version.view, lambda entries: with_tail(entries, version, tail))
            return number

    def write_head(
        self, version: Version, partition: int, cells: Iterable[Cell], head: Head
    ) -> None:
        """Replaces cells of a head and its position; BadInput for a partition that is not there."""
        check_partition(version, partition)
        rows = [(stored_key(key), sealed_cell(key, cell)) for key, cell in cells]
        with answers(f"The head of {version.view}"):
            write_to_head(self._head(version, partition), rows, head)

    def publish(self, version: Version) -> None:
        """Makes a version the current one of its view.

        Raises NotFound without its tail, DamagedData if the tail is not what was written.
        """
        with answers(f"The version {version.number} of {version.view}"):
            tail = entry_of(self._now().of(version.view), version).tail
            if tail is None:
                raise no_tail(version)
            if checksum_of(self._root / tail.name) != tail.checksum:
                raise damaged(f"The tail {tail.name}")
            self._change(version.view, lambda entries: promoted(entries, version))

    def versions(self, view: str) -> tuple[Version, ...]:
        """The versions of a view that are kept and were published, the current one first."""
        with answers(f"The versions of {view}"):
            return published(self._now().of(view))

    def read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        """What is known of each (view, key), in order, for a question about the time ``at``."""
        while True:
            state = self._state
            try:
                if self._catalog.begin().id() != state.number:
                    state = self._refresh()
                return self._read(state, wanted, at)
            except FileNotFoundError as error:
                # Dropped between the look at the versions and the opening of a file?
                if self._catalog.begin().id() == state.number:
                    raise translated("A version's file", error) from error
            except (lmdb.Error, OSError) as error:
                raise translated("The online store", error) from error

    def remains(self) -> tuple[str, ...]:
        """Nothing: files are replaced."""
        return ()

    def drop(self, version: Version) -> None:
        """Removes a version and its heads, or finds it gone; Conflict for the current one."""
        with answers(f"The version {version.number} of {version.view}"):
            self._change(version.view, lambda entries: dropped(entries, version))
            self._now()

    def views(self) -> tuple[str, ...]:
        """Every view of which anything is kept, published or not, sorted."""
        with answers("The versions of all views"):
            state = self._now()
            return tuple(
                sorted({e.version.view for found in state.entries.values() for e in found})
            )

    def erase(self, view: str, keys: Collection[bytes]) -> int:
        """Removes entities from every version of a view; how many cells there were."""
        erasure = Erasure(
            self._root, frozenset(map(stored_key, keys)), self._opened_any, _file_name
        )
        with answers(f"The versions of {view}"):
            self._change(view, erasure.of)
            self._now()
        return erasure.cells

    def _opened_any(self, entry: Entry, name: str) -> Any:
        tail = entry.tail
        if tail is not None and name == tail.name:
            return self._opened_tail(tail)
        return self._opened_head(name)

    def _read(self, state: _State, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        serving = state.serving
        moments: dict[str, Moment] = {}  # so that a view is of one moment in the whole batch
        found = []
        for view, key in wanted:
            moment = moments.get(view)
            if moment is None:
                opened = serving.get(view) or self._serve(state, view)
                if opened is None:
                    found.append(Found())
                    continue
                moment = moments[view] = opened.at(at).moment()
            found.append(find(moment, key))
        return found

    def _serve(self, state: _State, view: str) -> _Serving | None:
        entries = state.of(view)
        versions = published(entries)
        if not versions:
            return None
        current, *before = [
            functools.partial(self._open, entry_of(entries, version)) for version in versions[:2]
        ]
        serving = _Serving(current(), versions, before[0] if before else current)
        state.serving[view] = serving
        return serving

    def _open(self, entry: Entry) -> VersionFiles:
        assert entry.tail is not None, "a version is published with its tail"
        heads = [self._opened_head(name).begin if name else None for name in entry.heads]
        return VersionFiles(
            entry.version,
            self._opened_tail(entry.tail).begin,
            tuple(HeadFile(begin) if begin else None for begin in heads),
            Head(0, None, entry.version.cut),
        )

    def _opened_tail(self, tail: TailFile) -> Any:
        path = self._root / tail.name
        if path.stat().st_size != tail.size:
            raise damaged(f"The tail {tail.name}")
        return self._opened(tail.name, readonly=True, lock=False, map_size=tail.size)

    def _opened_head(self, name: str, create: bool = False) -> Any:
        return self._opened(name, create=create, map_size=self._head_bytes, max_readers=_READERS)

    def _opened(self, name: str, *, create: bool = False, **options: Any) -> Any:
        with self._lock:
            found = self._environments.get(name)
            if found is None:
                found = open_environment(self._root / name, create=create, **options)
                self._environments[name] = found
            return found

    def _now(self) -> _State:
        state = self._state
        return state if self._catalog.begin().id() == state.number else self._refresh()

    def _refresh(self) -> _State:
        """Reads the versions again, and lets go of what is no longer among them."""
        with self._lock, self._catalog.begin() as txn:
            old = self._state
            if txn.id() == old.number:
                return old
            raw = dict(txn.cursor())
            entries = {key: known for key in raw if (known := _decoded(old, key, raw[key]))}
            kept = {
                view: serving
                for view, serving in list(old.serving.items())
                if old.raw.get(key := stored_key(view.encode())) == raw.get(key)
            }
            self._state = _State(txn.id(), raw, entries, kept)
            used = files(entry for view in entries.values() for entry in view)
            for name in self._environments.keys() - used:
                del self._environments[name]
            return self._state

    def _head(self, version: Version, partition: int) -> Any:
        """The file of a partition's head, made if it is not there."""
        while True:
            state = self._now()
            name = entry_of(state.of(version.view), version).heads[partition]
            if name is None:
                return self._new_head(version, partition)
            try:
                return self._opened_head(name)
            except FileNotFoundError:
                if self._now() is state:
                    raise

    def _new_head(self, version: Version, partition: int) -> Any:
        def made(entries: Entries) -> Entries:
            if entry_of(entries, version).heads[partition]:
                return entries
            name = _file_name(version, f"{partition}", "head")
            write_to_head(self._opened_head(name, create=True), [], Head(0, None, version.cut))
            sync_folder(self._root)
            return with_head(entries, version, partition, name)

        self._change(version.view, made)
        return self._head(version, partition)

    @contextlib.contextmanager
    def _new_file(self, version: Version) -> Iterator[Path]:
        """A file for a tail, locked as long as it is built, and gone if it did not come to use."""
        with self._catalog.begin(write=True) as txn:
            self._sweep(txn)
            path = self._root / _file_name(version, "tail")
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            os.close(descriptor)
            with contextlib.suppress(lmdb.Error, OSError), self._catalog.begin(write=True) as txn:
                self._sweep(txn)

    def _change(self, view: str, change: Callable[[Entries], Entries]) -> None:
        """Replaces what is known of a view, and removes the files that are no longer used."""
        key = stored_key(view.encode())
        with self._catalog.begin(write=True) as txn:
            self._sweep(txn)
            raw = txn.get(key)
            before = decode(raw) if raw else ()
            after = change(before)
            if after != before:
                txn.put(key, encode(after))
        with contextlib.suppress(OSError):  # what stays here is removed by the next write
            for name in files(before) - files(after):
                remove(self._root / name)

    def _sweep(self, txn: Any) -> None:
        """Removes the files of writes that were cut off.

        Whoever holds the write transaction of ``versions.lmdb`` knows that no file is about to be
        named there, but for tails that are being built: those are locked.
        """
        try:
            used = files(entry for _, raw in txn.cursor() for entry in decode(raw))
        except DamagedData:
            return
        names = {name.removesuffix("-lock") for name in os.listdir(self._root)}
        for name in names - used:
            if name.endswith((".tail", ".head")) and not is_locked(self._root / name):
                remove(self._root / name)


def _decoded(old: _State, key: bytes, raw: bytes) -> Entries | None:
    """A view's versions, None if they are damaged: that shall not stop the other views."""
    if old.raw.get(key) == raw:
        return old.entries.get(key)
    try:
        return decode(raw)
    except DamagedData:
        return None


def _file_name(version: Version, *parts: str) -> str:
    label = re.sub(r"[^\w@-]", "_", version.view, flags=re.ASCII)[:80]
    *middle, kind = parts
    return ".".join([label, str(version.number), *middle, secrets.token_hex(6), kind])
