"""An online store in this process's memory, for tests and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from features.online.rules import check_partition, is_current, is_other_try, no_tail, version_at
from features.online.store import Cell, Found, Head, Version


@dataclass(slots=True)
class _Kept:
    tail: dict[bytes, bytes] | None = None
    heads: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    positions: dict[int, Head] = field(default_factory=dict)


class MemoryStore:
    """Implements OnlineStore: nothing outlives the process."""

    def __init__(self) -> None:
        self._kept: dict[Version, _Kept] = {}
        self._published: dict[str, tuple[Version, ...]] = {}
        self._lock = threading.Lock()

    def write_tail(self, version: Version, cells: Iterable[Cell]) -> int:
        """Keeps the whole tail of a version and returns its number of cells."""
        tail = dict(cells)
        with self._lock:
            for other in self._unpublished(version.view):
                if is_other_try(other, version):
                    del self._kept[other]
            self._kept.setdefault(version, _Kept()).tail = tail
        return len(tail)

    def write_head(
        self, version: Version, partition: int, cells: Iterable[Cell], head: Head
    ) -> None:
        """Replaces cells of a head and its position; BadInput for a partition that is not there."""
        check_partition(version, partition)
        new = dict(cells)
        with self._lock:
            kept = self._kept.setdefault(version, _Kept())
            if head.offset >= kept.positions.get(partition, Head()).offset:
                kept.heads.setdefault(partition, {}).update(new)
                kept.positions[partition] = head

    def publish(self, version: Version) -> None:
        """Makes a version the current one of its view; NotFound without its tail."""
        with self._lock:
            if self._kept.get(version, _Kept()).tail is None:
                raise no_tail(version)
            before = self._published.get(version.view, ())
            others = tuple(other for other in before if other != version)
            self._published[version.view] = (version, *others)
            for other in self._unpublished(version.view):
                if self._kept[other].tail is None and other.number < version.number:
                    del self._kept[other]

    def versions(self, view: str) -> tuple[Version, ...]:
        """The versions of a view that are kept and were published, the current one first."""
        return self._published.get(view, ())

    def read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        """What is known of each (view, key), in order, for a question about the time ``at``."""
        with self._lock:
            return [self._find(view, key, at) for view, key in wanted]

    def views(self) -> tuple[str, ...]:
        """Every view of which anything is kept, published or not, sorted."""
        with self._lock:
            return tuple(sorted({version.view for version in self._kept}))

    def erase(self, view: str, keys: Collection[bytes]) -> int:
        """Removes entities from every version of a view; how many cells there were."""
        with self._lock:
            kept = [kept for version, kept in self._kept.items() if version.view == view]
            cells = [part for one in kept for part in (one.tail or {}, *one.heads.values())]
            return sum(part.pop(key, None) is not None for part in cells for key in set(keys))

    def _unpublished(self, view: str) -> list[Version]:
        published = self._published.get(view, ())
        return [other for other in self._kept if other.view == view and other not in published]

    def _find(self, view: str, key: bytes, at: int) -> Found:
        version = version_at(self._published.get(view, ()), at)
        if version is None:
            return Found()
        kept, partitions = self._kept[version], range(version.partitions)
        never = Head(0, None, version.cut)
        return Found(
            version,
            kept.tail.get(key) if kept.tail else None,
            tuple(kept.heads.get(partition, {}).get(key) for partition in partitions),
            tuple(kept.positions.get(partition, never) for partition in partitions),
        )

    def remains(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def drop(self, version: Version) -> None:
        """Removes a version and its heads, or finds it gone; Conflict for the current one."""
        with self._lock:
            published = self._published.get(version.view, ())
            if published[:1] == (version,):
                raise is_current(version)
            self._published[version.view] = tuple(v for v in published if v != version)
            self._kept.pop(version, None)
