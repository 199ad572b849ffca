"""The outermost layer: whatever becomes of an exchange is written down once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from genai_gateway.clock import Clock
from genai_gateway.conversation import Answer
from genai_gateway.errors import Blocked, Limited, OutOfBudget
from genai_gateway.events import CONTENT, Event
from genai_gateway.exchange import Exchange, Handler, Reply
from genai_gateway.records.record import (
    ANSWERED,
    FAILED,
    LEFT,
    LIMITED,
    REFUSED,
    Record,
    record_of,
)


class Recorder(Protocol):
    """Takes in records: the audit, the metrics, the spans."""

    def record(self, record: Record) -> None:
        """Takes in one record; must not wait, must not raise."""
        ...


class Recorded:
    """Writes a record of every exchange."""

    def __init__(self, inner: Handler, recorders: Sequence[Recorder], clock: Clock) -> None:
        self._inner = inner
        self._recorders = tuple(recorders)
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> Reply:
        """The reply of the layers below."""
        try:
            reply = await self._inner(exchange)
        except BaseException as error:
            self._write(exchange, error)
            raise
        if isinstance(reply, Answer):
            exchange.first_token = self._clock.now()
            self._write(exchange)
            return reply
        return self._watched(exchange, reply)

    async def _watched(
        self, exchange: Exchange, events: AsyncIterator[Event]
    ) -> AsyncIterator[Event]:
        count, error = 0, None
        try:
            async for event in events:
                if isinstance(event, CONTENT):
                    count += 1
                    if count == 1:
                        exchange.first_token = self._clock.now()
                yield event
        except BaseException as raised:
            error = raised
            raise
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            self._write(exchange, error, count)

    def _write(
        self, exchange: Exchange, error: BaseException | None = None, events: int = 0
    ) -> None:
        name = type(error).__name__ if error is not None else ""
        now = self._clock.now()
        record = record_of(exchange, _outcome(error), name, now, events)
        for recorder in self._recorders:
            recorder.record(record)


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return ANSWERED
    if isinstance(error, Blocked):
        return REFUSED
    if isinstance(error, (Limited, OutOfBudget)):
        return LIMITED
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return LEFT
    return FAILED
