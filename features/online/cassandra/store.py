"""An online store in Cassandra: as large as its cluster, and up as long as a quorum is.

All that is known of an entity is one partition, read with one statement. Versions change by
compare-and-set on the view's ledger; a tail or head counts once the ledger names it. Cells and
positions carry timestamps made of cut and offset, so that the order in which writes arrive does not
matter. What a ledger names no more is removed key by key, a grace later: whoever learned the
ledger before has long finished reading.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence

from features.clock import Clock
from features.errors import Unavailable
from features.online.cassandra.cells import Kept, opened_head_cell
from features.online.cassandra.connection import Database
from features.online.cassandra.ledger import (
    Ledger,
    Part,
    begun,
    built,
    given_up,
    parts,
    with_entries,
    without,
)
from features.online.cassandra.ledgers import Ledgers
from features.online.cassandra.parts import Parts, Place
from features.online.cassandra.positions import Positions
from features.online.catalog import (
    Entry,
    dropped,
    entry_of,
    promoted,
    published,
    with_head,
)
from features.online.rules import check_partition, version_at
from features.online.sealing import opened_cell
from features.online.store import Cell, Found, Head, Version

GRACE_S = 600.0
"""How long what was dropped can still be read, in seconds."""

LIFE_S = 1.0
"""How long versions and positions are believed before they are read again, in seconds."""

_SECOND = 1_000_000
_TRIES = 3


class CassandraStore:
    """Implements OnlineStore for all processes that share a Cassandra.

    What this process wrote it reads at once; what another one published or wrote, after ``life_s``
    at the latest. Each head has one writer at a time; should there be two, for a while, the offset
    decides. Raises DamagedData for cells that are not what was written.
    """

    def __init__(
        self, database: Database, *, clock: Clock, grace_s: float = GRACE_S, life_s: float = LIFE_S
    ) -> None:
        self._database = database
        self._clock = clock
        self._grace_us = int(grace_s * _SECOND)
        life_us = int(life_s * _SECOND)
        self._ledgers = Ledgers(database, clock, life_us)
        self._positions = Positions(database, clock, life_us)
        self._parts = Parts(database)

    def write_tail(self, version: Version, cells: Iterable[Cell]) -> int:
        """Keeps the whole tail of a version and returns its number of cells.

        Raises Conflict if that takes longer than a day.
        """
        view, ledgers = version.view, self._ledgers
        tail = self._part(version, "tail")
        ledgers.change(view, lambda now: begun(now, tail))
        try:
            number = self._parts.fill_tail(view, tail, cells, version.cut)
            ledgers.change(
                view,
                lambda now: built(now, version, tail, number, self._clock.now()),
            )
        except BaseException:
            with contextlib.suppress(Unavailable):  # else it is given up a day later
                ledgers.change(view, lambda now: given_up(now, tail, self._clock.now()))
            raise
        self._sweep(view)
        return number

    def write_head(
        self, version: Version, partition: int, cells: Iterable[Cell], head: Head
    ) -> None:
        """Replaces cells of a head, then its position.

        Between the two, who reads a replaced cell reads its position with it. Raises BadInput for a
        partition that is not there.
        """
        check_partition(version, partition)
        new = dict(cells)
        name = self._head(version, partition)
        before = self._positions.now(version.view, name)
        if head.offset < before.head.offset:
            return
        kept = before.followed_by(head)
        part = Part(version.number, name, 0)
        self._parts.fill_head(version.view, part, new, kept)
        self._positions.write(name, kept)

    def publish(self, version: Version) -> None:
        """Makes a version the current one of its view; NotFound without its tail."""
        self._ledgers.change(
            version.view,
            lambda now: with_entries(now, promoted(now.entries, version), self._clock.now()),
        )

    def versions(self, view: str) -> tuple[Version, ...]:
        """The versions of a view that are kept and were published, the current one first."""
        return published(self._ledgers.now(view).entries)

    def read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        """What is known of each (view, key), in order, for a question about the time ``at``."""
        for _ in range(_TRIES):
            began = self._clock.now()
            found = self._read(wanted, at)
            # A process that slept may have read what was being removed.
            if not self._grace_us or self._clock.now() - began < self._grace_us // 2:
                return found
        raise Unavailable("A read took minutes.", "Is this machine suspended now and then?")

    def views(self) -> tuple[str, ...]:
        """Every view of which anything is kept, published or not, sorted."""
        views = self._ledgers.views()
        return tuple(sorted(v for v in views if self._ledgers.now(v).entries))

    def erase(self, view: str, keys: Collection[bytes]) -> int:
        """Removes entities from every version of a view; how many cells there were.

        Also from what was dropped, is being written or was never finished.
        """
        wanted, ledger = set(keys), self._ledgers.now(view)
        kept = {part.name for part in parts(Ledger(ledger.entries))}
        found = {part.name: self._parts.erase(view, part, wanted) for part in parts(ledger)}
        return sum(cells for name, cells in found.items() if name in kept)

    def remains(self) -> tuple[str, ...]:
        """What Cassandra keeps in its files until they are compacted."""
        seconds = self._database.grace_s()
        return (
            "Cassandra's files: the cells until the next compaction, the keys in marks of what was "
            f"removed until one that comes {seconds} s after it (gc_grace_seconds); "
            "nodetool compact on every node does both when the time is over",
        )

    def drop(self, version: Version) -> None:
        """Removes a version and its heads, or finds it gone; Conflict for the current one.

        It is gone at once for who asks now; its cells are removed by the next write to its view
        after the grace.
        """
        self._ledgers.change(
            version.view,
            lambda now: with_entries(now, dropped(now.entries, version), self._clock.now()),
        )
        self._sweep(version.view)

    def _read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        entries = {
            view: _entry_at(seen.ledger, at)
            for view, seen in self._ledgers.seen(view for view, _ in wanted).items()
        }
        positions = {view: self._moment(entry) for view, entry in entries.items() if entry}
        places: dict[bytes, list[Place]] = {}
        for view, key in dict.fromkeys(wanted):
            entry = entries[view]
            if entry is not None:
                places.setdefault(key, []).extend(_places(entry))
        cells = self._parts.read(places) if places else {}
        return [
            Found()
            if (entry := entries[view]) is None
            else _found(entry, key, cells, positions[view])
            for view, key in wanted
        ]

    def _moment(self, entry: Entry) -> list[Head]:
        """By partition the position that a version's heads have at least come to."""
        names = [name for name in entry.heads if name is not None]
        known = dict(zip(names, self._positions.seen(entry.version.view, names), strict=True))
        never = Kept(Head(0, None, entry.version.cut))
        return [_or_never(known.get(name or ""), never) for name in entry.heads]

    def _head(self, version: Version, partition: int) -> str:
        """The name of a partition's head, made if it is not there."""
        known = entry_of(self._ledgers.now(version.view).entries, version).heads[partition]
        if known is not None:
            return known
        name = self._part(version, f"head.{partition}").name

        def made(now: Ledger) -> Ledger:
            if entry_of(now.entries, version).heads[partition] is not None:
                return now
            entries = with_head(now.entries, version, partition, name)
            return with_entries(now, entries, self._clock.now())

        self._ledgers.change(version.view, made)
        return self._head(version, partition)

    def _part(self, version: Version, kind: str) -> Part:
        return Part(version.number, f"{kind}.{secrets.token_hex(8)}", self._clock.now())

    def _sweep(self, view: str) -> None:
        """Removes what nobody reads any more; what cannot be removed now is removed next time."""
        end = self._clock.now() - self._grace_us
        with contextlib.suppress(Unavailable):
            old = tuple(p for p in self._ledgers.now(view).garbage if p.since <= end)
            for part in old:
                self._parts.remove(view, part)
                self._positions.remove(part.name)
            if old:
                self._ledgers.change(view, lambda now: without(now, old))


def _entry_at(ledger: Ledger, at: int) -> Entry | None:
    version = version_at(published(ledger.entries), at)
    return None if version is None else entry_of(ledger.entries, version)


def _places(entry: Entry) -> list[Place]:
    names = [entry.tail.name] if entry.tail else []
    names += [name for name in entry.heads if name is not None]
    return [(entry.version.view, entry.version.number, name) for name in names]


def _or_never(kept: Kept | None, never: Kept) -> Head:
    return never.head if kept is None or kept.again < 0 else kept.head


def _found(
    entry: Entry, key: bytes, cells: Mapping[tuple[bytes, str], bytes], positions: Sequence[Head]
) -> Found:
    """One entity's cells with the position of each head that its cell is right for."""
    what = f"A cell of {entry.version.view}"
    assert entry.tail is not None, "a version is published with its tail"
    raw = cells.get((key, entry.tail.name))
    tail = None if raw is None else opened_cell(key, raw, what)
    heads: list[bytes | None] = []
    moments: list[Head] = []
    for name, position in zip(entry.heads, positions, strict=True):
        raw = None if name is None else cells.get((key, name))
        if raw is None:
            heads.append(None)
            moments.append(position)
            continue
        written, cell = opened_head_cell(key, raw, what)
        heads.append(cell)
        moments.append(written if written.offset > position.offset else position)
    return Found(entry.version, tail, tuple(heads), tuple(moments))
