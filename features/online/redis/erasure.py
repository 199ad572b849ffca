"""Entities out of a view's pieces in Redis, and out of Redis' files.

Cells leave tails and heads in one step with what is known of them. Redis then writes its files
anew; until it has, a mark says that this is still to be done, whoever was cut off.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from dataclasses import dataclass

import redis

from features.online.catalog import Entries, Entry, TailFile, files
from features.online.redis.reading import Known
from features.online.redis.scripts import CELL, DISCARD, ERASE
from features.redis_disk import rewrite_files


@dataclass(frozen=True, slots=True)
class Cut:
    """What an erasure does to a view: its entries after it, and how many cells there are."""

    entries: Entries
    cells: int


class Erasure:
    """Erases below a prefix."""

    def __init__(self, client: redis.Redis, prefix: bytes) -> None:
        self._client = client
        self._prefix = prefix
        self._mark = b"%s:erasing" % prefix
        self._erase_script = client.register_script(ERASE)
        self._discard_script = client.register_script(DISCARD)

    def planned(self, entries: Entries, keys: Collection[bytes]) -> Cut:
        """What it comes to; tails change only with their view's versions."""
        fields = [CELL + key for key in keys]
        names = sorted(files(entries))
        with self._client.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.hmget(self._key(name), fields)
            found = [sum(cell is not None for cell in row) for row in pipe.execute()]
        cells = dict(zip(names, found, strict=True))
        return Cut(tuple(_without(entry, cells) for entry in entries), sum(found))

    def done(
        self, versions: bytes, known: Known, after: bytes, cut: Cut, keys: Collection[bytes]
    ) -> bool:
        """Takes the cells out, unless the view's versions have changed meanwhile."""
        tails = [entry.tail for entry in cut.entries if entry.tail is not None]
        heads = [name for entry in cut.entries for name in entry.heads if name is not None]
        pieces = [*(tail.name for tail in tails), *heads]
        fields = [CELL + key for key in keys]
        return bool(
            self._erase_script(
                keys=[versions, self._mark, *map(self._key, pieces)],
                args=[known.raw or b"", after, len(tails), *(t.size for t in tails), *fields],
            )
        )

    def finish(self) -> None:
        """Removes tails that nobody finished, and lets Redis forget what was removed."""
        for key in self._client.scan_iter(_literally(self._key("tail:")) + b"*", count=1_000):
            self._discard_script(keys=[key, self._mark])
        if self._client.exists(self._mark):
            rewrite_files(self._client)
            self._client.delete(self._mark)

    def _key(self, name: str) -> bytes:
        return b"%s:%s" % (self._prefix, name.encode())


def keys_below(client: redis.Redis, prefix: bytes) -> list[bytes]:
    """What stands behind a prefix in the names of all keys that begin with it."""
    found = client.scan_iter(_literally(prefix) + b"*", count=1_000)
    return [bytes(key)[len(prefix) :] for key in found]


def _without(entry: Entry, cells: dict[str, int]) -> Entry:
    tail = entry.tail
    if tail is None:
        return entry
    smaller = TailFile(tail.name, tail.size - cells[tail.name], tail.checksum)
    return dataclasses.replace(entry, tail=smaller)


def _literally(text: bytes) -> bytes:
    """A pattern that only this text matches."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", text)
