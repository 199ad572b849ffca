"""What an online store keeps of a view: its versions, and the pieces that they are in.

A piece (a whole tail, or one partition's head) is a file where the store is embedded, and a named
set of cells where a server keeps it. Names never return.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from features.errors import DamagedData
from features.online.rules import is_current, is_other_try, no_tail
from features.online.store import Version


@dataclass(frozen=True, slots=True)
class TailFile:
    """A whole tail: its name, its size, and the CRC-32 of all of its bytes.

    The size is in bytes for a file, in cells where a server keeps it; a server has no CRC-32 (0).
    """

    name: str
    size: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One version and its pieces; ``heads`` are by partition, None where nothing was written."""

    version: Version
    tail: TailFile | None = None
    heads: tuple[str | None, ...] = ()
    published: bool = False


Entries = tuple[Entry, ...]
"""A view's versions, those that were published first, the current one at the very front."""


def entry_of(entries: Entries, version: Version) -> Entry:
    """A version's entry, or a new one without files."""
    found = (entry for entry in entries if entry.version == version)
    return next(found, Entry(version, heads=(None,) * version.partitions))


def with_tail(entries: Entries, version: Version, tail: TailFile) -> Entries:
    """The versions once a tail is there, less what a failed try at the same number left."""
    whole = dataclasses.replace(entry_of(entries, version), tail=tail)
    kept = (e for e in entries if e.published or not is_other_try(e.version, version))
    return _put(tuple(kept), whole)


def with_head(entries: Entries, version: Version, partition: int, name: str) -> Entries:
    """The versions once a partition's head is there."""
    entry = entry_of(entries, version)
    heads = (*entry.heads[:partition], name, *entry.heads[partition + 1 :])
    return _put(entries, dataclasses.replace(entry, heads=heads))


def with_current(entries: Entries, version: Version) -> Entries:
    """The versions once this one is published, less older ones that never had a tail."""
    current = dataclasses.replace(entry_of(entries, version), published=True)
    others = without(entries, version)
    return (current, *(e for e in others if e.tail or e.version.number > version.number))


def without(entries: Entries, version: Version) -> Entries:
    """The versions less this one."""
    return tuple(entry for entry in entries if entry.version != version)


def promoted(entries: Entries, version: Version) -> Entries:
    """The versions once this one is published; NotFound without its tail."""
    if entry_of(entries, version).tail is None:
        raise no_tail(version)
    return with_current(entries, version)


def dropped(entries: Entries, version: Version) -> Entries:
    """The versions less one that is not current; Conflict for the current one."""
    if published(entries)[:1] == (version,):
        raise is_current(version)
    return without(entries, version)


def published(entries: Entries) -> tuple[Version, ...]:
    """The versions that were published, the current one first."""
    return tuple(entry.version for entry in entries if entry.published)


def files(entries: Iterable[Entry]) -> set[str]:
    """The names of all files that are in use."""
    return {name for entry in entries for name in _names(entry)}


def encode(entries: Entries) -> bytes:
    """The versions as JSON behind a checksum."""
    text = orjson.dumps(entries)
    return zlib.crc32(text).to_bytes(4, "big") + text


def decode(raw: bytes) -> Entries:
    """The versions again; DamagedData if a byte of them is not what was written."""
    if zlib.crc32(raw[4:]).to_bytes(4, "big") != raw[:4]:
        raise DamagedData(
            "The list of a view's versions is damaged.",
            "Materialize the view into an empty online store.",
        )
    return tuple(
        Entry(
            Version(**item["version"]),
            TailFile(**item["tail"]) if item["tail"] else None,
            tuple(item["heads"]),
            item["published"],
        )
        for item in orjson.loads(raw[4:])
    )


def _names(entry: Entry) -> list[str]:
    tail = [entry.tail.name] if entry.tail else []
    return tail + [name for name in entry.heads if name]


def _put(entries: Entries, entry: Entry) -> Entries:
    if all(other.version != entry.version for other in entries):
        return (*entries, entry)
    return tuple(entry if other.version == entry.version else other for other in entries)
