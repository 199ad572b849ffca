"""Cells as they are kept in LMDB: under which key, behind which checksum; and a head's position."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from features.online.sealing import RESIDUE, damaged, pack_head, sealed_cell, unpack_head
from features.online.store import Found, Head, Version

_KEY_BYTES = 511  # LMDB's limit
_POSITION = bytes(_KEY_BYTES)  # where a head keeps its position: no cell has this key

Get = Callable[[bytes], Any]
"""Looks a stored key up in one file, as of one transaction; the answer is bytes or None."""

Moment = tuple[Version, Get, Sequence[Get | None], tuple[Head, ...]]
"""A version, how to get a cell of its tail and of each head, and the heads' positions."""


@dataclass(slots=True)
class HeadFile:
    """One partition's head; ``known`` is its position as of the last transaction it was seen in."""

    begin: Callable[[], Any]
    known: tuple[int, Head] = (-1, Head())


@dataclass(slots=True)
class VersionFiles:
    """A version's open files; a partition that has none yet has the position ``never``."""

    version: Version
    tail: Callable[[], Any]
    heads: tuple[HeadFile | None, ...]
    never: Head

    def moment(self) -> Moment:
        """The version as it is now; it can be read as long as the answer is kept."""
        tail = self.tail().get
        if not self.heads:
            return self.version, tail, (), ()
        gets: list[Get | None] = []
        positions = []
        for head in self.heads:
            if head is None:
                gets.append(None)
                positions.append(self.never)
                continue
            txn = head.begin()
            number, position = head.known
            if number != txn.id():  # decoding costs more than all the rest
                position = position_of(txn)
                head.known = txn.id(), position
            gets.append(txn.get)
            positions.append(position)
        return self.version, tail, gets, tuple(positions)


def find(moment: Moment, key: bytes) -> Found:
    """What is known of one entity; DamagedData for a cell that is not what was written."""
    version, tail, heads, positions = moment
    stored = key if 0 < len(key) < _KEY_BYTES else stored_key(key)
    seed = crc32(key)
    cell = tail(stored)
    if cell is not None:
        if crc32(cell, seed) != RESIDUE:
            raise damaged(f"A cell of {version.view}")
        cell = cell[:-4]
    if not heads:
        return Found(version, cell)
    cells = []
    for get in heads:
        raw = None if get is None else get(stored)
        if raw is not None:
            if crc32(raw, seed) != RESIDUE:
                raise damaged(f"A cell of {version.view}")
            raw = raw[:-4]
        cells.append(raw)
    return Found(version, cell, tuple(cells), positions)


def stored_key(key: bytes) -> bytes:
    """A key as LMDB can keep it; what is too long is hashed to the one length no other key has."""
    if 0 < len(key) < _KEY_BYTES:
        return key
    return (hashlib.sha256(key).digest() * 16)[:_KEY_BYTES]


def position_of(txn: Any) -> Head:
    """A head's position as of a transaction; DamagedData if it is not what was written."""
    raw = txn.get(_POSITION)
    if raw is None or crc32(raw, crc32(_POSITION)) != RESIDUE:
        raise damaged("The position of a head")
    return unpack_head(raw[:-4])


def write_to_head(environment: Any, rows: list[tuple[bytes, bytes]], head: Head) -> None:
    """Puts cells and position in one transaction, unless the head has come further already."""
    environment.reader_check()
    packed = pack_head(head)
    with environment.begin(write=True) as txn:
        if txn.stat()["entries"] and head.offset < position_of(txn).offset:
            return
        for key, cell in rows:
            txn.put(key, cell)
        txn.put(_POSITION, sealed_cell(_POSITION, packed))
