"""Time is an argument: logic asks a clock, tests advance one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time in UTC microseconds since 1970."""

    def now(self) -> int:
        """The current time, UTC µs."""
        ...


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> int:
        """The current time, UTC µs."""
        return time.time_ns() // 1_000
