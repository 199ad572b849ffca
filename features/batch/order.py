"""Orders of many rows by entity and time, without comparing them one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_KEY_BITS = 63


def by_code_and_time(codes: Ints, times: Ints) -> Ints:
    """The rows in order of (code, time); equal pairs stay in the order of their rows.

    Codes are not negative; times are µs of any sign.
    """
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    low, high = int(times.min()), int(times.max())
    if (int(codes.max()) + 1) * (high - low + 1) >= 1 << _KEY_BITS:
        return np.lexsort((times, codes))
    keys = codes * (high - low + 1)
    keys += times
    keys -= low
    return _by_key(keys)


def _by_key(keys: Ints) -> Ints:
    """The rows by an int64 key ≥ 0, in the order of rows where it is equal.

    Values sort several times faster than indices, so the row is packed below the key's upper bits;
    what the bits that found no room would have told apart is put right afterwards.
    """
    rows = np.arange(len(keys))
    if bool((keys[1:] >= keys[:-1]).all()):
        return rows
    row_bits = len(keys).bit_length()
    dropped = max(0, int(keys.max()).bit_length() + row_bits - _KEY_BITS)
    packed = ((keys >> dropped) << row_bits) | rows
    packed.sort()
    order = packed & ((1 << row_bits) - 1)
    if dropped:
        packed >>= row_bits
        resort_runs(order, packed[1:] == packed[:-1], (keys,))
    return order


def resort_runs(order: Ints, joined: Mask, keys: tuple[Ints, ...]) -> None:
    """Sorts, in place, the runs of an order in which ``joined`` ties each row to the one before.

    ``keys`` are by row, the last one first as in ``lexsort``; what they leave equal keeps its
    order.
    """
    member = members(joined, len(order))
    places = np.flatnonzero(member)
    if not len(places):
        return
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = ~joined
    run = np.cumsum(starts)[places]
    rows = order[places]
    order[places] = rows[np.lexsort((*(key[rows] for key in keys), run))]


def members(joined: Mask, size: int) -> Mask:
    """Which rows belong to a run of two or more; ``joined`` ties each row to the one before."""
    member = np.zeros(size, dtype=bool)
    member[1:] = joined
    member[:-1] |= joined
    return member
