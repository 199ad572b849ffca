"""The first days of November again: events stream in, and each departure is asked about in turn.

A question is asked only when the stream has passed everything that was known before it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from app.compose import Platform
from app.demo.stage import (
    FAMILY,
    NEW_YEAR,
    NOVEMBER,
    STREAMS,
    Advance,
    Period,
    Stage,
    clock_text,
    in_new_york,
    micros,
)
from app.demo.traffic import Answer, Ask, Body, Tally, asking, at, tally
from app.errors import BadInput, Unavailable
from app.lifecycle.cluster import NAMESPACE, connect
from app.plane import stream_actor
from examples.flights.replay import Event, Turn, turns
from features.stream.log import EventLog

CatchUp = Callable[[Mapping[str, int], int], None]
"""Returns when the streams' workers have passed these offsets, and everything before a time."""

_ANSWER_SECONDS = 120.0


class ReplayClock:
    """Implements Clock: the time of the story, UTC µs, which never goes back."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        """The moment that the story has reached."""
        return self._now

    def reach(self, moment: int) -> None:
        """Goes on to a moment."""
        self._now = max(self._now, moment)


@dataclass(frozen=True, slots=True)
class Replayed:
    """Events by stream, the answers counted, and the period."""

    period: Period
    events: Mapping[str, int]
    answers: Tally

    @property
    def held(self) -> bool:
        """Every question was answered."""
        return self.answers.requests > 0 and not self.answers.failures

    @property
    def lines(self) -> tuple[str, ...]:
        """Counts, latency, degradation."""
        told, period = self.answers, self.period
        events = ", ".join(f"{count:,} {stream}" for stream, count in self.events.items())
        share = told.undegraded / max(1, told.requests - told.failures)
        return (
            f"{clock_text(period.start)} to {clock_text(period.end)}: {events}",
            f"{told.requests:,} predictions asked at departure, {told.failures} failed, "
            f"p50 {told.p50_ms:.1f} ms, p95 {told.p95_ms:.1f} ms over HTTP",
            f"answered without degradation: {share:.1%}",
            *told.problems,
        )


def period_after(logs: Mapping[str, EventLog], days: int) -> Period:
    """The days that follow what the logs hold already; a stream cannot go back.

    Raises BadInput when the year is over.
    """
    known = [moment for log in logs.values() if (moment := _last(log)) is not None]
    start = max([NOVEMBER, *(moment + 1 for moment in known)])
    if start >= NEW_YEAR:
        raise BadInput(
            "the whole year has been replayed into this home", "Take another: TONDO_HOME=…"
        )
    end = micros(in_new_york(start) + timedelta(days=days))
    return Period(start, min(end, NEW_YEAR))


@contextmanager
def opened_logs(platform: Platform, clock: ReplayClock) -> Iterator[dict[str, EventLog]]:
    """The logs of the example's streams, with the story's time."""
    library, then = platform.library(), replace(platform, clock=clock)
    sources = [library.source(name) for name in STREAMS]
    logs = {s.stream or s.name: then.event_log(s.stream or s.name, s.partitions) for s in sources}
    try:
        yield logs
    finally:
        for log in logs.values():
            close = getattr(log, "close", None)
            if close is not None:
                close()


def next_period(stage: Stage) -> Period:
    """The period that this run replays."""
    with opened_logs(stage.platform, ReplayClock(NOVEMBER)) as logs:
        return period_after(logs, stage.days)


def questions(stage: Stage, span: Period, count: int, moment: int) -> list[Body]:
    """The first questions of a period, all asked at one moment (UTC µs)."""
    asked = (turn.request for turn in _turns(stage, span))
    bodies = (request.body() for request in asked if request is not None)
    chosen = [at(body, moment) for body in itertools.islice(bodies, count)]
    if not chosen:
        raise BadInput("no flight left in this period", "Replay more days: --days 2")
    return chosen


def replay(stage: Stage, span: Period) -> Replayed:
    """Plays the period against the running platform."""
    clock = ReplayClock(span.start)
    with opened_logs(stage.platform, clock) as logs, asking(stage.platform, FAMILY) as ask:
        catch_up = workers(stage, logs)
        return play(_turns(stage, span), logs, clock, span, catch_up, ask, stage.advance)


def _turns(stage: Stage, span: Period) -> Iterator[Turn]:
    return turns(stage.sources, in_new_york(span.start), in_new_york(span.end))


def play(
    story: Iterable[Turn],
    logs: Mapping[str, EventLog],
    clock: ReplayClock,
    span: Period,
    catch_up: CatchUp,
    ask: Ask,
    advance: Advance,
) -> Replayed:
    """Plays turns: events into the logs, workers caught up, then the question."""
    before = {name: log.end(0) for name, log in logs.items()}
    answers: list[Answer] = []
    for turn in story:
        append(turn.events, logs, clock)
        moment = turn.request.at if turn.request else span.end
        clock.reach(moment)
        catch_up({name: log.end(0) for name, log in logs.items()}, moment)
        if turn.request is not None:
            answers.append(ask(turn.request.body()))
            advance(f"replay {clock_text(moment)}", moment - span.start, span.end - span.start)
    return Replayed(span, {n: log.end(0) - before[n] for n, log in logs.items()}, tally(answers))


def append(events: Sequence[Event], logs: Mapping[str, EventLog], clock: ReplayClock) -> None:
    """Appends events in the order in which they became known, each at its own time."""
    for (moment, stream), group in itertools.groupby(events, lambda e: (e.at, e.stream)):
        clock.reach(moment)
        logs[stream].append(0, [event.row for event in group])


def workers(stage: Stage, logs: Mapping[str, EventLog]) -> CatchUp:
    """A function that waits for the workers of the logs' streams."""
    ray = connect(stage.cluster())
    actors = {name: worker(ray, name) for name in logs}

    def catch_up(offsets: Mapping[str, int], through: int) -> None:
        asked = [actors[n].catch_up.remote(offset, through) for n, offset in offsets.items()]
        answered(ray, asked)

    return catch_up


def worker(ray: Any, stream: str) -> Any:
    """The worker of a stream's only partition. Raises Unavailable if it is not there."""
    name = stream_actor(stream, 0)
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise Unavailable(f"{name} does not run", "Look at it with: tondo status") from None


def answered(ray: Any, asked: Sequence[Any]) -> list[Any]:
    """The answers of actors. Raises Unavailable if they take too long."""
    from ray.exceptions import GetTimeoutError

    try:
        return list(ray.get(list(asked), timeout=_ANSWER_SECONDS))
    except GetTimeoutError:
        raise Unavailable(
            f"the stream workers did not answer in {_ANSWER_SECONDS:g} s", "tondo status"
        ) from None


def _last(log: EventLog) -> int | None:
    """When the last event of a log was appended, UTC µs."""
    end = log.end(0)
    events = log.read(0, end - 1, 1) if end else []
    return events[0].appended_at if events else None
