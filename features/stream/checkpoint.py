"""The checkpoint of a stream partition: its state and its offset, always of the same moment.

An LMDB environment with three tables: ``own`` has the offset and what the caller wants to be told
again (meta), ``spaces`` numbers the spaces, ``cells`` has every space's keys behind its number. So
a space costs nothing until it has cells, and there may be any number of them.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from features.errors import BadInput, Conflict, DamagedData, Unavailable

# The file is sparse: this is address space, of which LMDB uses what it needs.
_MAP_BYTES = 1 << 38
_OFFSET = b"offset"
_NEXT_SPACE = b"next space"
_META = b"meta:"
_SHORT, _LONG = b"\0", b"\1"
# LMDB's keys have at most 511 bytes: 4 for the space, 1 for the kind.
_SHORT_BYTES = 506

_DATA, _REWRITTEN = "data.mdb", "rewritten"

_Change = tuple[bytes, bytes | None]
Unwanted = Callable[[str, bytes, bytes], bool]
"""Whether a cell is to go: by its space, key and value."""


class Checkpoint:
    """The state of one stream partition in a folder; one process at a time has it open to save.

    Every method raises Unavailable if the storage fails and DamagedData if its file is damaged.
    Opening one that this process already has open raises Conflict.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._storage():
            path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(path), map_size=_MAP_BYTES, max_dbs=3, max_spare_txns=4)
            self._env.reader_check()
            self._own = self._env.open_db(b"own")
            self._spaces = self._env.open_db(b"spaces")
            self._cells = self._env.open_db(b"cells")
        self._seen = self.offset()

    def offset(self) -> int:
        """The offset that the state was saved with, 0 if nothing was saved."""
        with self._reading() as txn:
            return _number(txn.get(_OFFSET, db=self._own))

    def meta(self, name: str) -> bytes | None:
        """What was last saved under this name."""
        with self._reading() as txn:
            found: bytes | None = txn.get(_META + name.encode(), db=self._own)
            return found

    def spaces(self) -> tuple[str, ...]:
        """The spaces that were saved to and not dropped since, sorted."""
        with self._reading() as txn, txn.cursor(db=self._spaces) as cursor:
            return tuple(name.decode() for name in cursor.iternext(values=False))

    def get(self, space: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, None where there is none."""
        with self._reading() as txn:
            prefix = txn.get(space.encode(), db=self._spaces)
            if prefix is None:
                return [None] * len(keys)
            return [self._value(txn, prefix, key) for key in keys]

    def scan(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of one moment, in no order that means anything."""
        with self._reading() as txn:
            prefix = txn.get(space.encode(), db=self._spaces)
            if prefix is not None:
                yield from self._stored(txn, prefix)

    def save(
        self,
        offset: int,
        changes: Mapping[str, Iterable[_Change]],
        meta: Mapping[str, bytes] | None = None,
    ) -> None:
        """Sets the offset, values by space and key (None deletes) and meta: all of it or nothing.

        It is durable on return. Raises Conflict if somebody else has saved since this one was
        opened or last saved: two processors of a partition must not mix their states.
        """
        with self._writing() as txn:
            self._check_alone(txn)
            for space, cells in changes.items():
                self._change(txn, self._prefix(txn, space), cells)
            for name, value in (meta or {}).items():
                txn.put(_META + name.encode(), value, db=self._own)
            txn.put(_OFFSET, _packed(offset), db=self._own)
        self._seen = offset

    def drop(self, space: str) -> None:
        """Removes a space with all it has, or finds it gone; raises Conflict as ``save`` does."""
        with self._writing() as txn:
            self._check_alone(txn)
            prefix = txn.get(space.encode(), db=self._spaces)
            if prefix is not None:
                txn.delete(space.encode(), db=self._spaces)
                self._clear(txn, prefix)

    def copy_to(self, path: Path, unwanted: Unwanted) -> int:
        """Writes a checkpoint of the same moment without some cells; how many were left out."""
        shutil.rmtree(path, ignore_errors=True)
        left_out = 0
        with self._reading() as txn, Checkpoint(path) as copy, copy._writing() as into:
            for table, its in ((self._own, copy._own), (self._spaces, copy._spaces)):
                for name, value in txn.cursor(db=table):
                    into.put(name, value, db=its)
            spaces = {number: name.decode() for name, number in txn.cursor(db=self._spaces)}
            for stored, raw in txn.cursor(db=self._cells):
                space = spaces.get(stored[:4])
                if space is not None and unwanted(space, *_cell(stored[4:], raw)):
                    left_out += 1
                else:
                    into.put(stored, raw, db=copy._cells, append=True)
        return left_out

    def close(self) -> None:
        """Gives the file back; what was saved stays."""
        self._env.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_alone(self, txn: Any) -> None:
        found = _number(txn.get(_OFFSET, db=self._own))
        if found != self._seen:
            raise Conflict(
                f"somebody else moved the checkpoint {self._path} from {self._seen} to {found}",
                "one process at a time may work on a partition: end this one, it is not the newest",
            )

    def _prefix(self, txn: Any, space: str) -> bytes:
        """The number of a space, which gets one if it is new. Numbers are never used again."""
        name = space.encode()
        known: bytes | None = txn.get(name, db=self._spaces)
        if known is not None:
            return known
        number = _number(txn.get(_NEXT_SPACE, db=self._own))
        prefix = number.to_bytes(4, "big")
        txn.put(_NEXT_SPACE, _packed(number + 1), db=self._own)
        txn.put(name, prefix, db=self._spaces)
        return prefix

    def _change(self, txn: Any, prefix: bytes, cells: Iterable[_Change]) -> None:
        for key, value in cells:
            stored = prefix + _stored_key(key)
            if value is None:
                txn.delete(stored, db=self._cells)
            else:
                txn.put(stored, _stored_value(key, value), db=self._cells)

    def _value(self, txn: Any, prefix: bytes, key: bytes) -> bytes | None:
        stored = _stored_key(key)
        found = txn.get(prefix + stored, db=self._cells)
        return None if found is None else _cell(stored, found)[1]

    def _stored(self, txn: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with txn.cursor(db=self._cells) as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key().startswith(prefix):
                yield _cell(cursor.key()[4:], cursor.value())
                more = cursor.next()

    def _clear(self, txn: Any, prefix: bytes) -> None:
        with txn.cursor(db=self._cells) as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key().startswith(prefix):
                more = cursor.delete() and bool(cursor.key())

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        with self._storage(), self._env.begin() as txn:
            yield txn

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._storage(), self._env.begin(write=True) as txn:
            yield txn

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Says in our words what LMDB says."""
        try:
            yield
        except lmdb.BadValsizeError as error:
            raise BadInput(f"a name in the checkpoint {self._path} is too long: {error}") from error
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError) as error:
            raise DamagedData(
                f"the checkpoint {self._path} is damaged: {error}",
                "remove it: the state is computed again from the event log",
            ) from error
        except (lmdb.Error, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Conflict | Unavailable:
        if "already open in this process" in str(error):
            return Conflict(
                f"the checkpoint {self._path} is already open in this process",
                "close the one that has it, or share it",
            )
        return Unavailable(
            f"the checkpoint {self._path} does not answer: {error}",
            "see whether the disk is full and the files may be read and written",
        )


def erase_cells(path: Path, unwanted: Unwanted, traces: Sequence[bytes] = ()) -> int:
    """Removes cells from a checkpoint that nobody has open; how many there were.

    The file is written anew without them, whenever it has one, or anywhere in it the bytes of one
    of ``traces``: LMDB keeps what was deleted until something else takes its place. It is replaced
    by a rename, so a crash leaves the old one or the new. Raises as Checkpoint's methods do.
    """
    if not (path / _DATA).exists():
        return 0
    with Checkpoint(path) as old:
        cells = old.copy_to(path / _REWRITTEN, unwanted)
    if cells or _has(path / _DATA, traces):
        with _folder(path) as folder:
            os.replace(path / _REWRITTEN / _DATA, path / _DATA)
            os.fsync(folder)
    shutil.rmtree(path / _REWRITTEN)
    return cells


def _has(path: Path, traces: Sequence[bytes]) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(trace) >= 0 for trace in traces)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _stored_key(key: bytes) -> bytes:
    """A key as LMDB can have it: a long one by its digest."""
    return _SHORT + key if len(key) <= _SHORT_BYTES else _LONG + hashlib.sha256(key).digest()


def _stored_value(key: bytes, value: bytes) -> bytes:
    """A value, behind its key if that is a long one."""
    return value if len(key) <= _SHORT_BYTES else len(key).to_bytes(4, "big") + key + value


def _cell(stored_key: bytes, stored_value: bytes) -> tuple[bytes, bytes]:
    if stored_key.startswith(_SHORT):
        return stored_key[1:], stored_value
    end = 4 + int.from_bytes(stored_value[:4], "big")
    return stored_value[4:end], stored_value[end:]


def _packed(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _number(stored: bytes | None) -> int:
    return int.from_bytes(stored or b"", "big")
