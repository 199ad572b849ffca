"""The port to the ledger: the one place that knows how much of every limit is left.

Amounts are whole numbers: nano-dollars, requests or tokens. The ledger grants *blocks* to
replicas; a replica spends its blocks without asking, and reports what it spent. Whatever is
granted counts as used until it is given back, so

    settled + held by replicas ≤ limit

holds at every moment, whoever dies. A block of a replica that is gone stays held until its window
ends: nobody knows how much of it was spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from genai_gateway.clock import MINUTE, SECOND

Unit = Literal["usd", "requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of one account: money a calendar month (UTC), requests or tokens a minute."""

    account: str
    unit: Unit
    limit: int

    def window(self, now: int) -> int:
        """The beginning of the window that a moment (UTC µs) is in."""
        if self.unit != "usd":
            return now - now % MINUTE
        moment = datetime.fromtimestamp(now / SECOND, UTC)
        return round(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * SECOND

    def window_end(self, now: int) -> int:
        """The end of that window."""
        start = self.window(now)
        if self.unit != "usd":
            return start + MINUTE
        return self.window(start + 32 * 86_400 * SECOND)


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish for a block: at least ``need``, better ``want``."""

    meter: Meter
    window: int
    need: int
    want: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A block: how much was granted (0 if less than needed was left), and what is left after it."""

    amount: int
    left: int


@dataclass(frozen=True, slots=True)
class Line:
    """An amount on one account in one window."""

    account: str
    unit: Unit
    window: int
    amount: int


@dataclass(slots=True)
class Batch:
    """What a replica reports: ``number`` counts its batches, so that none is booked twice.

    ``spent`` and ``returned`` come off its blocks. ``opened`` are requests under way with what is
    reserved for them, ``closed`` the ids of those that are done.
    """

    number: int
    spent: list[Line] = field(default_factory=list)
    returned: list[Line] = field(default_factory=list)
    opened: dict[str, list[Line]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Balance:
    """How an account stands in a window."""

    account: str
    unit: Unit
    window: int
    limit: int
    settled: int
    held: int


class Ledger(Protocol):
    """Grants blocks and books what was spent."""

    async def grant(self, replica: str, asks: Sequence[Ask]) -> list[Grant]:
        """A grant for each wish, in order."""
        ...

    async def report(self, replica: str, batch: Batch) -> None:
        """Books a batch; one that was booked before changes nothing."""
        ...

    async def balances(self) -> list[Balance]:
        """How every account stands in its newest windows."""
        ...
