"""Cells and positions as Cassandra keeps them: under which key, in which bytes, at which time.

Cassandra keeps of two writes the one with the greater timestamp. A tail's are its cut and up, a
head's its offset in the log: who writes something older changes nothing, whenever it arrives.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from features.errors import BadInput
from features.online.sealing import HEAD_BYTES, opened_cell, pack_head, sealed_cell, unpack_head
from features.online.store import Head

REMOVED = (1 << 63) - 1
"""The timestamp of a removal: parts have names that never return, so nothing is written after."""

_LONGEST_KEY = 1_024
_AGAIN_BITS = 16
_MOST_AGAIN = (1 << _AGAIN_BITS) - 1
_OFFSETS = 1 << (63 - _AGAIN_BITS)
_AGAIN = struct.Struct("<i")
_POSITION = b"position"


@dataclass(frozen=True, slots=True)
class Kept:
    """A head's position, and how often it was written again at the same offset."""

    head: Head
    again: int = -1

    @property
    def order(self) -> tuple[int, int]:
        """The later of two writes has the greater one."""
        return self.head.offset, self.again

    def followed_by(self, head: Head) -> Kept:
        """The position that is written after this one; BadInput for an offset beyond 2⁴⁷."""
        if not 0 <= head.offset < _OFFSETS:
            raise BadInput(f"The offset {head.offset} cannot be kept.", f"It is below {_OFFSETS}.")
        again = min(self.again + 1, _MOST_AGAIN) if head.offset == self.head.offset else 0
        return Kept(head, again)

    @property
    def timestamp(self) -> int:
        """When it was written, by the clock of the log."""
        return (self.head.offset << _AGAIN_BITS) + self.again


def entity_of(key: bytes) -> bytes:
    """The partition of an entity: its key, or a hash where that is too long; never empty."""
    if len(key) <= _LONGEST_KEY:
        return b"k" + key
    return b"h" + hashlib.sha256(key).digest()


def packed_position(kept: Kept) -> bytes:
    """A position as it is kept."""
    return sealed_cell(_POSITION, pack_head(kept.head) + _AGAIN.pack(kept.again))


def opened_position(raw: bytes, view: str) -> Kept:
    """A position again; DamagedData if it is not what was written."""
    whole = opened_cell(_POSITION, raw, f"A head of {view}")
    (again,) = _AGAIN.unpack(whole[HEAD_BYTES:])
    return Kept(unpack_head(whole[:HEAD_BYTES]), again)


def packed_head_cell(key: bytes, cell: bytes, head: Head) -> bytes:
    """A head's cell with the position that it was written at."""
    return sealed_cell(key, pack_head(head) + cell)


def opened_head_cell(key: bytes, raw: bytes, what: str) -> tuple[Head, bytes]:
    """The position that a cell was written at, and the cell; DamagedData if it is damaged."""
    whole = opened_cell(key, raw, what)
    return unpack_head(whole[:HEAD_BYTES]), whole[HEAD_BYTES:]
