"""Window arithmetic: hops and floors (PALETTE §3.2)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from features.durations import DAY, HOUR, MILLISECOND, MINUTE, SECOND

HOPS = (
    DAY,
    HOUR,
    5 * MINUTE,
    MINUTE,
    10 * SECOND,
    SECOND,
    100 * MILLISECOND,
    10 * MILLISECOND,
    MILLISECOND,
)
Time = TypeVar("Time", int, npt.NDArray[np.int64])


def default_hop(window: int) -> int:
    """The largest hop that is at most a twelfth of the window; never below 1 ms. All in µs."""
    return next((hop for hop in HOPS if hop * 12 <= window), MILLISECOND)


def hop_of(window: int, view_hop: int | None) -> int:
    """The hop of a window: the view's own, else the default of the window."""
    return view_hop or default_hop(window)


def floor_to(time: Time, hop: int) -> Time:
    """The latest multiple of ``hop`` since 1970 not after ``time`` (towards minus infinity)."""
    return time // hop * hop


def window_start(time: Time, window: int, hop: int) -> Time:
    """Where a window that ends at ``time`` begins: ``floor(time - window, hop)``."""
    return floor_to(time - window, hop)


def leaves_at(event_time: Time, window: int, hop: int) -> Time:
    """The first q at which an event has left the window.

    ``floor(q - W) <= t`` iff ``q - W < floor(t) + hop``, because both floors are multiples of hop.
    """
    return floor_to(event_time, hop) + hop + window
