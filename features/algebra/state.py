"""What one entity's events have come to, and its packed form in the online store.

Events that count for every time asked about are in *tiles*: one partial for each hop of a window,
one for all history without a window. Those with an event time still ahead (schedules) wait apart.

A packed cell holds, for every window, not the tiles but their *suffixes*: the merge of a hop with
all later ones. So a read finds its window's beginning by bisection and decodes one partial,
whatever the aggregation, and a hop that leaves the window needs no subtraction.
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from features.algebra.bytes import Reader, Writer
from features.algebra.compiled import FAILED, CompiledAggregation
from features.algebra.kinds import Order, Partial
from features.algebra.view import Row
from features.errors import DamagedData
from features.windows import floor_to, window_start

FORMAT = 1
NEVER = -(1 << 63)
_HOP_BYTES, _PLACE_BYTES = 8, 4
_PLACE = struct.Struct("<I")
Slots = Sequence[CompiledAggregation]
Waiting = list[tuple[Order, tuple[Any, ...]]]


class EntityState:
    """The tiles of one entity in one view; grows by events, in whatever order they come.

    ``newest`` is the greatest available_at among them, µs.
    """

    __slots__ = ("_slots", "newest", "tiles", "waiting")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.newest = NEVER
        self.tiles: list[dict[int, Partial]] = [{} for _ in slots]
        self.waiting: Waiting = []

    def add(self, row: Row) -> None:
        """Takes in an event; it waits if its event time lies after it became available."""
        time, available, _ = row.order
        self.newest = max(self.newest, available)
        if time <= available:
            self._settle(row.order, row.values)
        else:
            self.waiting.append((row.order, row.values))

    def settle(self, settled: int) -> None:
        """Moves events whose time has come into the tiles, and forgets what no window reaches.

        ``settled``: every later question is about this time (µs) or a later one. For a head that
        is ``newest + 1``, so that its bytes follow from the entity's own events alone.
        """
        if self.waiting:
            due = [event for event in self.waiting if event[0][0] < settled]
            self.waiting = [event for event in self.waiting if event[0][0] >= settled]
            for order, values in due:
                self._settle(order, values)
        for slot, tiles in zip(self._slots, self.tiles, strict=True):
            if slot.window is not None and slot.hop is not None:
                start = window_start(settled, slot.window, slot.hop)
                for hop in [hop for hop in tiles if hop < start]:
                    del tiles[hop]

    def _settle(self, order: Order, values: tuple[Any, ...]) -> None:
        for slot, tiles, value in zip(self._slots, self.tiles, values, strict=True):
            if value is not None:
                add_to_tiles(slot, tiles, value, order)

    def pack(self) -> bytes:
        """The cell that the online store keeps."""
        blocks = [_pack_slot(s, t) for s, t in zip(self._slots, self.tiles, strict=True)]
        blocks.append(_pack_waiting(self.waiting))
        header = struct.pack(f"<BH{len(blocks)}I", FORMAT, len(blocks), *_starts(blocks))
        return header + b"".join(blocks)

    def dump(self) -> bytes:
        """Everything, for a checkpoint."""
        out = Writer()
        out.time(self.newest)
        for slot, tiles in zip(self._slots, self.tiles, strict=True):
            out.whole(len(tiles))
            for hop in sorted(tiles):
                out.whole(hop)
                _write_tile(slot, tiles[hop], out)
        _write_waiting(self.waiting, out)
        return out.done()

    @classmethod
    def load(cls, slots: Slots, data: bytes) -> EntityState:
        """Back from ``dump``. Raises DamagedData."""
        state, source = cls(slots), Reader(data)
        state.newest = source.time()
        for slot, tiles in zip(slots, state.tiles, strict=True):
            for _ in range(source.whole()):
                hop = source.whole()
                tiles[hop] = _read_tile(slot, source)
        state.waiting = _read_waiting(source)
        return state


def add_to_tiles(
    slot: CompiledAggregation, tiles: dict[int, Partial], value: Any, order: Order
) -> None:
    """Adds a value to the tile of its hop; without a window to the one tile, with its time.

    The one tile is (partial, newest event time that it took in).
    """
    if slot.hop is None:
        held, newest = tiles.get(0) or (slot.algebra.empty(), NEVER)
        tiles[0] = (slot.algebra.add(held, value, order), newest_of(newest, value, order))
        return
    hop = floor_to(order[0], slot.hop)
    held = tiles.get(hop)
    tiles[hop] = slot.algebra.add(slot.algebra.empty() if held is None else held, value, order)


def newest_of(newest: int, value: Any, order: Order) -> int:
    """The newest event time taken in (µs); a group's event without a value is not."""
    if isinstance(value, tuple) and value[1] is None:
        return newest
    return max(newest, order[0])


class OpenCell:
    """A packed cell, read on demand; what was decoded is kept. Raises DamagedData."""

    __slots__ = ("_blocks", "_data", "_decoded", "_slots", "waiting")

    def __init__(self, slots: Slots, data: bytes) -> None:
        if len(data) < 3 or data[0] != FORMAT:
            raise DamagedData("a stored cell is not of a known format", "Materialize again.")
        (count,) = struct.unpack_from("<H", data, 1)
        if count != len(slots) + 1 or len(data) < 3 + 4 * count:
            raise DamagedData("a stored cell has other features than its view", "")
        self._slots = slots
        self._data = data
        self._blocks: tuple[int, ...] = struct.unpack_from(f"<{count}I", data, 3)
        self._decoded: dict[Any, Any] = {}
        self.waiting = _waiting_of(data, self._blocks[-1])

    def whole(self, index: int) -> tuple[Partial, int] | None:
        """A slot without a window: its partial and the newest event time in it (µs), if any."""
        if index not in self._decoded:
            self._decoded[index] = self._read_whole(index)
        found: tuple[Partial, int] | None = self._decoded[index]
        return found

    def since(self, index: int, start: int) -> Partial | None:
        """A slot with a window: the merge of all hops from ``start`` (µs) on, if there are any."""
        hops, places = self._decoded.get(index) or self._read_hops(index)
        place = bisect_left(hops, start)
        if place == len(hops):
            return None
        key = (index, place)
        found = self._decoded.get(key)
        if found is None:
            (offset,) = _PLACE.unpack_from(self._data, places + _PLACE_BYTES * place)
            base = places + _PLACE_BYTES * len(hops)
            source = Reader(self._data, base + offset)
            found = self._decoded[key] = self._slots[index].algebra.read(source)
        return found

    def _read_whole(self, index: int) -> tuple[Partial, int] | None:
        start = self._blocks[index]
        if start == self._blocks[index + 1]:
            return None
        source = Reader(self._data, start)
        newest = source.time()
        return self._slots[index].algebra.read(source), newest

    def _read_hops(self, index: int) -> tuple[Sequence[int], int]:
        """Where the hops of a slot begin (µs), as they lie there, and where their places are."""
        at, data = self._blocks[index], self._data
        count = int.from_bytes(data[at : at + 4], "little")
        places = at + 4 + _HOP_BYTES * count
        if places + _PLACE_BYTES * count > len(data):
            raise DamagedData("a stored cell is cut short", "Materialize again.")
        hops = self._decoded[index] = _hops(data[at + 4 : places]), places
        return hops


def _hops(data: bytes) -> Sequence[int]:
    if sys.byteorder == "little":
        return memoryview(data).cast("q")
    return struct.unpack(f"<{len(data) // _HOP_BYTES}q", data)


def _pack_slot(slot: CompiledAggregation, tiles: dict[int, Partial]) -> bytes:
    if slot.hop is None:
        return _pack_whole(slot, tiles)
    hops = sorted(tiles)
    suffix, parts = slot.algebra.empty(), []
    for hop in reversed(hops):
        suffix = slot.algebra.merge(tiles[hop], suffix)
        out = Writer()
        slot.algebra.write(suffix, out)
        parts.append(out.done())
    parts.reverse()
    count = len(hops)
    places = list(accumulate(map(len, parts[:-1]), initial=0)) if parts else []
    return struct.pack(f"<I{count}q{count}I", count, *hops, *places) + b"".join(parts)


def _pack_whole(slot: CompiledAggregation, tiles: dict[int, Partial]) -> bytes:
    out = Writer()
    for held, newest in tiles.values():
        out.time(newest)
        slot.algebra.write(held, out)
    return out.done()


def _pack_waiting(waiting: Waiting) -> bytes:
    out = Writer()
    _write_waiting(waiting, out)
    return out.done()


def _starts(blocks: Sequence[bytes]) -> list[int]:
    starts, at = [], 3 + 4 * len(blocks)
    for block in blocks:
        starts.append(at)
        at += len(block)
    return starts


def _write_tile(slot: CompiledAggregation, tile: Partial, out: Writer) -> None:
    if slot.hop is None:
        held, newest = tile
        out.time(newest)
        slot.algebra.write(held, out)
    else:
        slot.algebra.write(tile, out)


def _read_tile(slot: CompiledAggregation, source: Reader) -> Partial:
    if slot.hop is None:
        newest = source.time()
        return slot.algebra.read(source), newest
    return slot.algebra.read(source)


def _write_waiting(waiting: Waiting, out: Writer) -> None:
    out.whole(len(waiting))
    for order, values in sorted(waiting, key=_waiting_key):
        out.value(list(order))
        out.whole(len(values))
        for value in values:
            out.value("!" if value is FAILED else [value] if value is not None else None)


def _waiting_key(event: tuple[Order, tuple[Any, ...]]) -> Any:
    return event[0][:2], repr(event)


def _read_waiting(source: Reader) -> Waiting:
    return [
        (tuple(source.value()), tuple(_read_value(source) for _ in range(source.whole())))
        for _ in range(source.whole())
    ]


def _read_value(source: Reader) -> Any:
    value = source.value()
    if value is None:
        return None
    if value == "!":
        return FAILED
    (held,) = value
    return tuple(held) if isinstance(held, list) else held


_NOBODY = _pack_waiting([])


def _waiting_of(data: bytes, at: int) -> Waiting:
    if data[at : at + 1] == _NOBODY:
        return []
    return _read_waiting(Reader(data, at))
