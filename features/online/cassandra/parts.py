"""Tails and heads in Cassandra: filled, read by entity, removed by their own manifests."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from features.online.cassandra.cells import REMOVED, Kept, entity_of, packed_head_cell
from features.online.cassandra.connection import Database, Statement
from features.online.cassandra.ledger import Part
from features.online.sealing import sealed_cell
from features.online.store import Cell

_BUCKETS = 64
_CHUNK_CELLS, _CHUNK_BYTES = 512, 1 << 20
_REMEMBERED = 200_000

_ONE = "WHERE entity = ? AND feature_view = ? AND version = ? AND part = ?"
_WRITE = Statement(
    "INSERT INTO {keyspace}.cells (entity, feature_view, version, part, cell) "
    "VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_READ = Statement(
    "SELECT part, cell FROM {keyspace}.cells "
    "WHERE entity = ? AND (feature_view, version, part) IN ?"
)
_HAS = Statement(f"SELECT part FROM {{keyspace}}.cells {_ONE}")
_REMOVE = Statement(f"DELETE FROM {{keyspace}}.cells USING TIMESTAMP ? {_ONE}")
_WRITTEN = Statement(f"SELECT WRITETIME(cell) FROM {{keyspace}}.cells {_ONE}")
_LIST = Statement(
    "INSERT INTO {keyspace}.manifests (part, bucket, chunk, entities) VALUES (?, ?, ?, ?)"
)
_LISTED = Statement("SELECT entities FROM {keyspace}.manifests WHERE part = ? AND bucket = ?")
_LISTS = Statement("SELECT chunk, entities FROM {keyspace}.manifests WHERE part = ? AND bucket = ?")
_UNLIST_ONE = Statement(
    "DELETE FROM {keyspace}.manifests WHERE part = ? AND bucket = ? AND chunk = ?"
)
_UNLIST = Statement("DELETE FROM {keyspace}.manifests WHERE part = ? AND bucket = ?")

Place = tuple[str, int, str]
"""View, number of the version, name of the part."""


class Parts:
    """The cells of all parts, for one store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listed_here: set[tuple[str, bytes]] = set()

    def fill_tail(self, view: str, tail: Part, cells: Iterable[Cell], cut: int) -> int:
        """Writes the cells of a tail and returns their number; of a key the last one counts.

        Keys that come in order cost nothing more; for others it is looked up whether they came
        before. Memory holds one chunk.
        """
        number = 0
        greatest: bytes | None = None
        for place, chunk in enumerate(_chunks(cells)):
            before = [] if greatest is None else [key for key in chunk if key <= greatest]
            number += len(chunk) - self._count(view, tail, before)
            greatest = max(chunk) if greatest is None else max(greatest, *chunk)
            sealed = {key: sealed_cell(key, cell) for key, cell in chunk.items()}
            entities = {entity_of(key): cell for key, cell in sealed.items()}
            self._enter(tail.name, list(entities))
            self._put(view, tail, entities, cut + place)
        return number

    def fill_head(self, view: str, head: Part, cells: Mapping[bytes, bytes], kept: Kept) -> None:
        """Writes cells of a head at a position; those that are behind what is there lose."""
        sealed = {key: packed_head_cell(key, cell, kept.head) for key, cell in cells.items()}
        for chunk in _chunks(sealed.items()):
            entities = {entity_of(key): cell for key, cell in chunk.items()}
            self._enter_new(head.name, list(entities))
            self._put(view, head, entities, kept.timestamp)

    def read(self, wanted: Mapping[bytes, Sequence[Place]]) -> dict[tuple[bytes, str], bytes]:
        """By key and part the cells that there are, with one statement for each entity."""
        asked = [(entity_of(key), list(places)) for key, places in wanted.items()]
        found = self._database.many(_READ, asked)
        return {
            (key, part): cell
            for key, rows in zip(wanted, found, strict=True)
            for part, cell in rows
        }

    def remove(self, view: str, part: Part) -> None:
        """Removes all cells of a part, then what lists them; can be repeated if it was cut off."""
        for bucket in range(_BUCKETS):
            for (entities,) in self._database.rows(_LISTED, (part.name, bucket)):
                rows = [(REMOVED, entity, view, part.number, part.name) for entity in entities]
                self._database.write(_REMOVE, rows)
            self._database.write(_UNLIST, [(part.name, bucket)])

    def erase(self, view: str, part: Part, keys: Collection[bytes]) -> int:
        """Removes entities from a part and from what lists them; how many cells there were.

        A head's writer may bring them back later: a removal is as old as the cell that it removes.
        """
        entities = {entity_of(key) for key in keys}
        asked = [(entity, view, part.number, part.name) for entity in entities]
        found = self._database.many(_WRITTEN, asked)
        cells = [(rows[0][0], *row) for row, rows in zip(asked, found, strict=True) if rows]
        self._database.write(_REMOVE, cells)
        for bucket in range(_BUCKETS):
            for chunk, listed in self._database.rows(_LISTS, (part.name, bucket)):
                left = [entity for entity in listed if entity not in entities]
                if not left:
                    self._database.write(_UNLIST_ONE, [(part.name, bucket, chunk)])
                elif len(left) < len(listed):
                    self._database.write(_LIST, [(part.name, bucket, chunk, left)])
        self._listed_here -= {(part.name, entity) for entity in entities}
        return len(cells)

    def _put(self, view: str, part: Part, entities: Mapping[bytes, bytes], timestamp: int) -> None:
        rows = [
            (entity, view, part.number, part.name, cell, timestamp)
            for entity, cell in entities.items()
        ]
        self._database.write(_WRITE, rows)

    def _enter(self, name: str, entities: list[bytes]) -> None:
        """Lists entities in a part's manifest."""
        chunk = uuid.uuid4()
        self._database.write(_LIST, [(name, chunk.int % _BUCKETS, chunk, entities)])

    def _enter_new(self, name: str, entities: list[bytes]) -> None:
        """Lists entities in a part's manifest, but those that this process has just listed."""
        new = [entity for entity in entities if (name, entity) not in self._listed_here]
        if new:
            self._enter(name, new)
            if len(self._listed_here) > _REMEMBERED:
                self._listed_here.clear()
            self._listed_here.update((name, entity) for entity in new)

    def _count(self, view: str, tail: Part, keys: list[bytes]) -> int:
        """How many of the keys the tail has already."""
        rows = [(entity_of(key), view, tail.number, tail.name) for key in keys]
        return sum(bool(found) for found in self._database.many(_HAS, rows))


def _chunks(cells: Iterable[Cell]) -> Iterator[dict[bytes, bytes]]:
    """Cells by key, some hundreds or a MiB at a time."""
    chunk: dict[bytes, bytes] = {}
    size = 0
    for key, cell in cells:
        chunk[key] = cell
        size += len(key) + len(cell)
        if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_CELLS:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk
