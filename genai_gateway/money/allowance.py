"""A replica's side of the ledger: blocks in memory, so that most requests ask nobody."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from genai_gateway.clock import SECOND, Clock
from genai_gateway.errors import GatewayError, Limited, OutOfBudget, Unavailable
from genai_gateway.money.ledger import Ask, Batch, Grant, Ledger, Line, Meter, Unit

_IDLE = 2 * SECOND
_HEARTBEAT = 5 * SECOND
_Key = tuple[str, Unit, int]

_log = logging.getLogger("tondo.llm")


@dataclass(slots=True)
class _Block:
    left: int = 0
    used: int = 0


@dataclass(slots=True)
class Reservation:
    """What is set aside for a request, and on which accounts."""

    request: str
    held: list[tuple[Meter, int, int]]
    settled: bool = False


class Allowance:
    """The blocks of one replica. ``run`` reports to the ledger until it is cancelled."""

    def __init__(self, ledger: Ledger, replica: str, clock: Clock, every_s: float = 0.05) -> None:
        self._ledger = ledger
        self._replica = replica
        self._clock = clock
        self._every_s = every_s
        self._blocks: dict[_Key, _Block] = {}
        self._asking = asyncio.Lock()
        self._number = 0
        self._spent: Counter[_Key] = Counter()
        self._opened: dict[str, list[Line]] = {}
        self._closed: list[str] = []
        self._unsent: Batch | None = None
        self._reported = 0

    async def reserve(self, request: str, needs: Mapping[Meter, int]) -> Reservation:
        """Sets amounts aside. Raises Limited or OutOfBudget, Unavailable without a ledger."""
        now = self._clock.now()
        held = [(meter, meter.window(now), need) for meter, need in needs.items()]
        # Others may use up what was granted while this request waited; then it asks again.
        while not self._covers(held):
            async with self._asking:
                await self._ask(held, now)
        for meter, window, need in held:
            block = self._block(meter, window)
            block.left -= need
            block.used = now
        reservation = Reservation(request, held)
        if held:
            self._opened[request] = [_line(meter, window, need) for meter, window, need in held]
        return reservation

    def settle(self, reservation: Reservation, spent: Mapping[Unit, int]) -> int:
        """Books what was spent, never more than was set aside, and frees the rest.

        Returns how much money more than that was really spent. A second call changes nothing.
        """
        if reservation.settled or not reservation.held:
            return 0
        reservation.settled = True
        for meter, window, need in reservation.held:
            charge = min(spent[meter.unit], need)
            self._block(meter, window).left += need - charge
            self._spent[meter.account, meter.unit, window] += charge
        self._opened.pop(reservation.request, None)
        self._closed.append(reservation.request)
        money = [need for meter, _, need in reservation.held if meter.unit == "usd"]
        return max(0, spent["usd"] - max(money, default=spent["usd"]))

    async def run(self) -> None:
        """Reports to the ledger again and again."""
        while True:
            await self._clock.wait(self._every_s)
            try:
                await self.flush()
            except Exception as error:
                _log.warning("the ledger cannot be reached: %s", error)

    async def flush(self) -> None:
        """Reports what happened since the last time; what cannot be reported is kept."""
        if self._unsent is None:
            self._unsent = self._batch()
        if self._unsent is None:
            return
        await self._ledger.report(self._replica, self._unsent)
        self._unsent = None
        self._reported = self._clock.now()

    async def give_back(self) -> None:
        """Reports everything and returns all blocks: the end of a replica."""
        await self.flush()
        for block in self._blocks.values():
            block.used = -_IDLE
        await self.flush()

    def _covers(self, held: list[tuple[Meter, int, int]]) -> bool:
        return all(self._block(meter, window).left >= need for meter, window, need in held)

    async def _ask(self, held: list[tuple[Meter, int, int]], now: int) -> None:
        lacking = [
            (meter, window, need)
            for meter, window, need in held
            if self._block(meter, window).left < need
        ]
        asks = [
            Ask(meter, window, need - self._block(meter, window).left, _want(meter, need))
            for meter, window, need in lacking
        ]
        for (meter, window, need), grant in zip(lacking, await self._granted(asks), strict=True):
            block = self._block(meter, window)
            block.left += grant.amount
            block.used = now
            if not grant.amount:
                raise refusal(meter, need, block.left + grant.left, now)

    async def _granted(self, asks: list[Ask]) -> list[Grant]:
        if not asks:
            return []
        try:
            return await self._ledger.grant(self._replica, asks)
        except GatewayError:
            raise
        except Exception as error:
            _log.error("the ledger cannot be reached: %s", error)
            raise Unavailable("the ledger cannot be reached", "Try again shortly.") from None

    def _block(self, meter: Meter, window: int) -> _Block:
        key = meter.account, meter.unit, window
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block()
        return block

    def _batch(self) -> Batch | None:
        now = self._clock.now()
        returned = self._idle(now)
        fresh = {request: lines for request, lines in self._opened.items() if lines}
        quiet = now - self._reported < _HEARTBEAT or not self._blocks
        if quiet and not (self._spent or returned or fresh or self._closed):
            return None
        self._number += 1
        spent = [Line(*key, amount) for key, amount in self._spent.items()]
        batch = Batch(self._number, spent, returned, fresh, self._closed)
        self._spent, self._closed = Counter(), []
        # Reported once: from now on their end is reported too, by an id among the closed.
        for request in fresh:
            del self._opened[request]
        return batch

    def _idle(self, now: int) -> list[Line]:
        """What is left of blocks that nobody used lately, taken out to be given back."""
        returned: list[Line] = []
        for key, block in list(self._blocks.items()):
            if now - block.used > _IDLE and block.left > 0:
                returned.append(Line(*key, block.left))
                block.left = 0
            if not block.left and now - block.used > 3600 * SECOND:
                del self._blocks[key]
        return returned


def refusal(meter: Meter, need: int, left: int, now: int) -> GatewayError:
    """The error for a limit that is reached."""
    wait_s = (meter.window_end(now) - now) / SECOND
    if meter.unit == "usd":
        return OutOfBudget(
            f"the budget of {meter.account} has {max(left, 0) / 1e9:.6f} USD left this month,"
            f" and this request may cost {need / 1e9:.6f} USD",
            "Lower max_tokens, wait for the next month, or ask for a larger budget.",
        )
    if need > meter.limit:
        return Limited(
            f"the request counts as up to {need:,} {meter.unit}, more than {meter.account} may use"
            f" in a minute ({meter.limit:,})",
            "Lower max_tokens or shorten the conversation.",
        )
    return Limited(
        f"{meter.account} has used its {meter.limit:,} {meter.unit} of this minute",
        f"Ask again in {wait_s:.0f} s.",
        wait_s,
    )


def _want(meter: Meter, need: int) -> int:
    """How large a block should be: enough for a while, a small part of the limit."""
    if meter.unit == "usd":
        return max(need, min(meter.limit // 50, 16 * need))
    return max(need, meter.limit // 10)


def _line(meter: Meter, window: int, amount: int) -> Line:
    return Line(meter.account, meter.unit, window, amount)
