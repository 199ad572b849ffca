"""The events of an entity in the logs, and what their streams remember of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.compose import Platform
from features.dtypes import to_arrow
from features.library import Library
from features.offline.ingest import dead_letter_table
from features.sources import Source
from features.stream.checkpoint import erase_cells
from features.stream.ids import SPACE as IDS
from features.stream.ids import id_digests
from features.stream.intake import check_finished
from features.stream.memo import QUARANTINE
from features.subject import Subject

_EVENTS = 10_000
KeysOf = Callable[[str], frozenset[bytes]]


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """The events of the subject in one stream: offsets by partition, digests of ids, and rows."""

    source: Source
    offsets: Mapping[int, frozenset[int]]
    ids: frozenset[bytes]
    rows: tuple[Mapping[str, Any], ...] = ()

    @property
    def tables(self) -> tuple[str, str]:
        """Where the stream lands: its table, and that of its dead letters."""
        return self.source.table, dead_letter_table(self.source).name


def met_in_logs(platform: Platform, library: Library, subject: Subject) -> Iterator[Met]:
    """The subject's events in the log of every stream that there is.

    Raises Conflict while a file is only half in a log.
    """
    for source in library.sources():
        if source.stream is not None:
            check_finished(platform.home.log / source.stream / "files")
            yield _met(platform, source, subject)


def keys_of(library: Library, keys: Mapping[str, frozenset[bytes]]) -> KeysOf:
    """The keys to be erased from a view, by its id; all of them from one that nobody defines."""
    entities = {view.name: view.entity.name for view in library.views()}
    everything = frozenset(key for some in keys.values() for key in some)

    def found(view: str) -> frozenset[bytes]:
        entity = entities.get(view.partition("@")[0])
        return everything if entity is None else keys.get(entity, frozenset())

    return found


def checkpoint_of(met: Met, partition: int, path: Path, keys: KeysOf) -> int:
    """Removes the subject from a partition's checkpoint; how many cells there were."""
    offsets = met.offsets.get(partition, frozenset())

    def unwanted(space: str, key: bytes, value: bytes) -> bool:
        if space == IDS:
            return key in met.ids and int.from_bytes(value, "big") in offsets
        if space == QUARANTINE:
            return int.from_bytes(key, "big") in offsets
        return key in keys(space)

    return erase_cells(path, unwanted, [*keys(""), *met.ids])


def _met(platform: Platform, source: Source, subject: Subject) -> Met:
    offsets: dict[int, frozenset[int]] = {}
    rows: list[Mapping[str, Any]] = []
    log: Any = platform.event_log(str(source.stream), source.partitions)
    with closing(log):
        for partition in range(source.partitions):
            mine = [e for e in _events(log, partition) if subject.is_in(e.row)]
            offsets[partition] = frozenset(event.offset for event in mine)
            rows += [event.row for event in mine]
    ids = [row.get(source.event_id) for row in rows if source.event_id]
    return Met(source, offsets, _digests(source, ids), tuple(rows))


def _events(log: Any, partition: int) -> Iterator[Any]:
    offset = log.offset_at(partition, -(1 << 63))
    while events := log.read(partition, offset, _EVENTS):
        yield from events
        offset = events[-1].offset + 1


def _digests(source: Source, ids: list[Any]) -> frozenset[bytes]:
    """The digests of those ids that have the type that the source declares."""
    if source.event_id is None:
        return frozenset()
    kind = to_arrow(source.columns[source.event_id])
    is_time = pa.types.is_timestamp(kind)
    found: set[bytes | None] = set()
    for value in ids:
        try:
            array = pa.array([value], pa.int64() if is_time else kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            continue  # a malformed event claims no id
        found |= set(id_digests(array.cast(kind)))
    return frozenset(digest for digest in found if digest is not None)
