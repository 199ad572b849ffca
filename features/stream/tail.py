"""Which event ids the tail of a version counts already, whoever brought them into the lake."""

from __future__ import annotations

from features.algebra.view import counting
from features.offline.lake import Condition, Lake
from features.online.store import Version
from features.sources import Source
from features.stream.ids import id_digests


class TailIds:
    """Asks the lake once for each tail; a source without an event id has none."""

    def __init__(self, lake: Lake, source: Source) -> None:
        self._lake = lake
        self._source = source
        self._known: dict[tuple[int, int], frozenset[bytes]] = {}

    def __call__(self, version: Version) -> frozenset[bytes]:
        """Digests of the ids that count in the tail.

        Raises NotFound if the lake no longer has the snapshot that the tail was read from.
        """
        if self._source.event_id is None or version.snapshot == 0:
            return frozenset()
        tail = (version.snapshot, version.cut)
        if tail not in self._known:
            self._known[tail] = self._read(version, self._source.event_id)
        return self._known[tail]

    def keep(self, versions: set[Version]) -> None:
        """Forgets the tails of other versions."""
        kept = {(version.snapshot, version.cut) for version in versions}
        self._known = {tail: ids for tail, ids in self._known.items() if tail in kept}

    def _read(self, version: Version, event_id: str) -> frozenset[bytes]:
        source = self._source
        columns = list(dict.fromkeys([event_id, source.event_time, source.available_at]))
        before = Condition(source.available_at, "<", version.cut)
        events = self._lake.scan(
            source.table, columns=columns, snapshot=version.snapshot, where=[before]
        )
        digests = id_digests(counting(events, source).column(event_id))
        return frozenset(digest for digest in digests if digest is not None)
