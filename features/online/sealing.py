"""What is stored of a cell and of a head's position: bytes that show any damage when read again."""

from __future__ import annotations

import struct
from zlib import crc32

from features.errors import DamagedData
from features.online.store import Head

RESIDUE = 0x2144DF1C
"""The CRC-32 of any bytes that are followed by their own CRC-32."""

_HEAD = struct.Struct("<qq?q")
HEAD_BYTES = _HEAD.size
"""How long a packed position is."""


def sealed_cell(key: bytes, cell: bytes) -> bytes:
    """A cell, and behind it the checksum of its key and itself."""
    return cell + crc32(cell, crc32(key)).to_bytes(4, "little")


def opened_cell(key: bytes, raw: bytes, what: str) -> bytes:
    """A cell again; DamagedData, about ``what``, if it is not what was written for this key."""
    if crc32(raw, crc32(key)) != RESIDUE:
        raise damaged(what)
    return raw[:-4]


def pack_head(head: Head) -> bytes:
    """A position in 25 bytes."""
    return _HEAD.pack(head.offset, head.through, head.newest is not None, head.newest or 0)


def unpack_head(raw: bytes) -> Head:
    """A position again."""
    offset, through, known, newest = _HEAD.unpack(raw)
    return Head(offset, newest if known else None, through)


def damaged(what: str) -> DamagedData:
    """The error for bytes that are not what was written."""
    return DamagedData(f"{what} is damaged.", "Materialize the view again.")
