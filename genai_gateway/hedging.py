"""Two asked, one answer: a second call is made if the first is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


async def first_of(
    first: Callable[[], Awaitable[_T]],
    second: Callable[[], Awaitable[_T]],
    after_s: float,
    drop: Callable[[_T], Awaitable[None]],
) -> _T:
    """The first result of the two; the second is started after ``after_s`` seconds.

    The loser is cancelled, or given to ``drop`` if it was done at the same moment. If the first
    call fails before the second was started, or both fail, the first one's error is raised.
    """
    tasks: list[asyncio.Future[_T]] = [asyncio.ensure_future(first())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=after_s)
        if not done:
            tasks.append(asyncio.ensure_future(second()))
        winner = await _winner(tasks)
    except BaseException:
        await _abandon(tasks, drop)
        raise
    await _abandon([task for task in tasks if task is not winner], drop)
    return winner.result()


async def _winner(tasks: list[asyncio.Future[_T]]) -> asyncio.Future[_T]:
    """The first task that succeeds; the first task of all if none does."""
    pending: set[asyncio.Future[_T]] = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done and task.exception() is None:
                return task
    return tasks[0]


async def _abandon(tasks: list[asyncio.Future[_T]], drop: Callable[[_T], Awaitable[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(result, BaseException):
            await drop(result)
