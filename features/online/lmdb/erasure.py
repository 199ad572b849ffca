"""Entities out of a view's files: each file that has one is written anew without them.

The new files count once ``versions.lmdb`` names them, all in one transaction; the old ones are
removed after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.online.catalog import Entries, Entry, TailFile
from features.online.lmdb.files import checksum_of, copy_without
from features.online.store import Version

Open = Callable[[Entry, str], Any]
"""The environment of one of an entry's files."""
Name = Callable[..., str]
"""A new name for a file: of a version, and what the name ends with."""


class Erasure:
    """Rewrites the files of entries; ``cells`` counts those that were left out."""

    def __init__(self, root: Path, stored: Collection[bytes], opened: Open, named: Name) -> None:
        self._root = root
        self._stored = stored
        self._opened = opened
        self._named = named
        self.cells = 0

    def of(self, entries: Entries) -> Entries:
        """The entries with files that do not have the entities."""
        self.cells = 0
        return tuple(self._without(entry) for entry in entries)

    def _without(self, entry: Entry) -> Entry:
        heads = tuple(
            name and (self._renewed(entry, name, f"{partition}", "head") or name)
            for partition, name in enumerate(entry.heads)
        )
        return replace(entry, tail=self._renewed_tail(entry), heads=heads)

    def _renewed_tail(self, entry: Entry) -> TailFile | None:
        if entry.tail is None:
            return None
        name = self._renewed(entry, entry.tail.name, "tail")
        if name is None:
            return entry.tail
        path = self._root / name
        return TailFile(name, path.stat().st_size, checksum_of(path))

    def _renewed(self, entry: Entry, name: str, *parts: str) -> str | None:
        """The name of a new file without the entities, None if the old one has none of them."""
        environment = self._opened(entry, name)
        with environment.begin() as txn:
            cells = sum(txn.get(stored) is not None for stored in self._stored)
        if not cells:
            return None
        self.cells += cells
        version: Version = entry.version
        new = self._named(version, *parts)
        copy_without(environment, self._root / new, self._stored)
        return new
