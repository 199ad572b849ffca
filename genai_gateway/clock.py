"""Time as an argument: what hour it is, and how to wait."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND


class Clock(Protocol):
    """Tells the time in microseconds since 1970 (UTC), and waits."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    async def wait(self, seconds: float) -> None:
        """Returns when so many seconds have passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1_000

    async def wait(self, seconds: float) -> None:
        """Returns when so many seconds have passed."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock for tests: it stands still, and whoever waits moves it."""

    def __init__(self, start: int = 1_700_000_000 * SECOND) -> None:
        self.time = start
        self.waits: list[float] = []

    def now(self) -> int:
        """The time it was set to."""
        return self.time

    async def wait(self, seconds: float) -> None:
        """Moves the clock on, and lets others run once."""
        self.waits.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Moves the clock on."""
        self.time += round(seconds * SECOND)
