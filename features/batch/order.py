"""Orders of many rows by entity and time, without comparing them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_KEY_BITS = 63
_BLOCK = 1 << 18
"""Rows that are packed at a time: arrays of all rows cost more to get than to fill."""


def by_code_and_time(codes: Ints, times: Ints) -> Ints:
    """The rows in order of (code, time); equal pairs stay in the order of their rows.

    Codes are not negative; times are µs of any sign. Values sort several times faster than indices,
    so each row is packed below the upper bits of its key; what the bits that found no room would
    have told apart is put right afterwards.
    """
    size = len(codes)
    if not size:
        return np.zeros(0, dtype=np.int64)
    low, high = int(times.min()), int(times.max())
    span = high - low + 1
    keys = (int(codes.max()) + 1) * span
    if keys >= 1 << _KEY_BITS:
        return np.lexsort((times, codes))
    row_bits = size.bit_length()
    dropped = max(0, keys.bit_length() + row_bits - _KEY_BITS)
    packed = np.empty(size, dtype=np.int64)
    for block in _blocks(size):
        key = codes[block] * span + (times[block] - low)
        packed[block] = ((key >> dropped) << row_bits) | np.arange(block.start, block.stop)
    packed.sort()
    joined = _joined(packed, row_bits) if dropped else None
    packed &= (1 << row_bits) - 1
    if joined is not None:
        resort_runs(packed, joined, lambda some: (times[some], codes[some]))
    return packed


def _joined(packed: Ints, row_bits: int) -> Mask:
    """Whether each but the first has the same key as the one before."""
    joined = np.empty(len(packed) - 1, dtype=bool)
    for block in _blocks(len(joined)):
        after = packed[block.start + 1 : block.stop + 1]
        joined[block] = (packed[block] ^ after) >> row_bits == 0
    return joined


def _blocks(size: int) -> Iterator[slice]:
    return (slice(i, min(i + _BLOCK, size)) for i in range(0, size, _BLOCK))


def resort_runs(order: Ints, joined: Mask, keys: Callable[[Ints], Sequence[Ints | Mask]]) -> None:
    """Sorts, in place, the runs of an order in which ``joined`` ties each row to the one before.

    ``keys`` gives the keys of some rows, the last one first as in ``lexsort``; what they leave
    equal keeps its order.
    """
    member = np.zeros(len(order), dtype=bool)
    member[1:] = joined
    member[:-1] |= joined
    places = np.flatnonzero(member)
    if len(places):
        starts = np.ones(len(order), dtype=bool)
        starts[1:] = ~joined
        run = np.cumsum(starts[places])
        rows = order[places]
        order[places] = rows[np.lexsort((*keys(rows), run))]
