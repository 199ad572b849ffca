"""What tests of the feature store share: a clock that they advance."""

from __future__ import annotations


class ManualClock:
    """Implements Clock: stands still until it is told otherwise. Times are UTC µs."""

    def __init__(self, now: int = 1_383_264_000_000_000) -> None:
        self._now = now

    def now(self) -> int:
        """The time it was set to."""
        return self._now

    def advance(self, micros: int) -> int:
        """Moves on (or back, if negative) and returns the new time."""
        self._now += micros
        return self._now

    def set(self, now: int) -> None:
        """Sets the time."""
        self._now = now
