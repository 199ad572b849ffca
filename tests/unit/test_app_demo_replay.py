"""The replay keeps its promise of order, and counts every answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.control.retraining import Hold, Retrain
from app.demo.learn import learned
from app.demo.replay import ReplayClock, Replayed, append, period_after, play
from app.demo.retrain import Drifted, Retrained
from app.demo.stage import NEW_YEAR, NOVEMBER, Period
from app.demo.traffic import Answer, Background, Body, Tally, answer_of, at, tally
from app.errors import BadInput
from app.moments import written
from examples.flights.replay import Event, Request, Turn
from features.stream.memory import MemoryLog

DAY, HOUR = 86_400_000_000, 3_600_000_000
STREAMS = ("departures", "landings", "weather")


class Platformlet:
    """Logs, workers and a service in memory, which write down what they saw in what order."""

    def __init__(self) -> None:
        self.clock = ReplayClock(NOVEMBER)
        self.logs = {name: MemoryLog(1, self.clock) for name in STREAMS}
        self.passed: dict[str, int] = {}
        self.through = 0
        self.seen: list[tuple[int, dict[str, int]]] = []
        self.broken: set[str] = set()

    def catch_up(self, offsets: Mapping[str, int], through: int) -> None:
        """The workers pass everything that is in the logs."""
        for name, offset in offsets.items():
            assert offset <= self.logs[name].end(0)
        self.passed, self.through = dict(offsets), through

    def ask(self, body: Body) -> Answer:
        """Answers, and remembers what the stream had passed by then."""
        self.seen.append((self.through, dict(self.passed)))
        if body["entities"]["carrier"] in self.broken:
            return Answer(9.0, problem="503: away")
        return Answer(2.0, version=1)

    def play(self, story: list[Turn], span: Period) -> Replayed:
        """Plays turns."""
        told: list[Any] = []
        return play(
            story, self.logs, self.clock, span, self.catch_up, self.ask, lambda *a: told.append(a)
        )


def question(moment: int, carrier: str = "UA") -> Request:
    """A question of a carrier."""
    return Request(moment, f"f{moment}", {"carrier": carrier}, {}, None)


def event(moment: int, stream: str = "landings") -> Event:
    """An event that became known at a moment."""
    return Event(moment, stream, {"known": moment})


def test_a_question_comes_after_all_that_was_known_before_it() -> None:
    """Every worker has passed every earlier event, and nothing later is in any log."""
    world, start = Platformlet(), NOVEMBER
    story = [
        Turn((event(start + 1), event(start + 2, "weather")), question(start + 3)),
        Turn((), question(start + 3)),
        Turn((event(start + 4), event(start + 4), event(start + 5)), question(start + 9)),
        Turn((event(start + 9),), None),
    ]
    done = world.play(story, Period(start, start + 20))
    assert world.seen == [
        (start + 3, {"departures": 0, "landings": 1, "weather": 1}),
        (start + 3, {"departures": 0, "landings": 1, "weather": 1}),
        (start + 9, {"departures": 0, "landings": 4, "weather": 1}),
    ]
    assert done.events == {"departures": 0, "landings": 5, "weather": 1}
    assert (done.answers.requests, done.held) == (3, True)
    assert world.through == start + 20, "the end is reached, so that nothing hangs in the air"


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(STREAMS)), max_size=40))
def test_every_event_is_appended_at_the_moment_it_became_known(
    moments: list[tuple[int, str]],
) -> None:
    """In the log stands when an event became known, to the microsecond, and nothing is lost."""
    world = Platformlet()
    events = [event(NOVEMBER + offset, stream) for offset, stream in sorted(moments)]
    append(events, world.logs, world.clock)
    for name, log in world.logs.items():
        stored = log.read(0, 0, 100)
        mine = [each for each in events if each.stream == name]
        assert [each.appended_at for each in stored] == [each.at for each in mine]
        assert [dict(each.row) for each in stored] == [each.row for each in mine]


def test_one_failed_answer_fails_the_replay() -> None:
    """A request that was not answered is counted, named, and spoils the step."""
    world = Platformlet()
    world.broken = {"AA"}
    story = [Turn((), question(NOVEMBER + i, c)) for i, c in enumerate(["UA", "AA", "UA", "AA"])]
    done = world.play(story, Period(NOVEMBER, NOVEMBER + 9))
    assert (done.answers.requests, done.answers.failures, done.held) == (4, 2, False)
    assert done.lines[-1] == "503: away (2 times)"


def test_a_replay_without_questions_does_not_hold() -> None:
    """Nothing asked, nothing proven."""
    assert not Platformlet().play([Turn((), None)], Period(NOVEMBER, NOVEMBER + 1)).held


def test_a_new_home_begins_in_november() -> None:
    """Empty logs begin with the first of November on New York's clocks."""
    assert written(NOVEMBER) == "2013-11-01T04:00:00Z"
    span = period_after(Platformlet().logs, days=2)
    assert span == Period(NOVEMBER, NOVEMBER + 2 * DAY)


def test_a_second_run_goes_on_where_the_streams_stand() -> None:
    """A stream cannot go back: the next run begins after the last event of any log."""
    world = Platformlet()
    last = event(NOVEMBER + 47 * HOUR, "weather")
    append([event(NOVEMBER + 40 * HOUR), last], world.logs, world.clock)
    span = period_after(world.logs, days=1)
    assert span.start == NOVEMBER + 47 * HOUR + 1
    # The clocks go back on 3 November, so that day of New York's has 25 hours.
    assert span.end - span.start == 25 * HOUR


def test_the_year_ends() -> None:
    """A replay stops at the new year, and a home that is there already is told so."""
    world = Platformlet()
    append([event(NEW_YEAR - HOUR)], world.logs, world.clock)
    assert period_after(world.logs, days=2).end == NEW_YEAR
    append([event(NEW_YEAR)], world.logs, world.clock)
    with pytest.raises(BadInput, match="whole year"):
        period_after(world.logs, days=2)


def test_a_clock_of_a_story_never_goes_back() -> None:
    """An earlier moment leaves the clock where it is."""
    clock = ReplayClock(5)
    clock.reach(3)
    assert clock.now() == 5


def test_the_tally_counts_versions_levels_and_latency() -> None:
    """Latency is of the answered requests, and every version that answered is counted."""
    answers = [Answer(float(i), version=1 + i % 2, level=i % 4 // 3) for i in range(1, 101)]
    done = tally([*answers, Answer(900.0, problem="502: gone")])
    assert (done.requests, done.failures, done.undegraded) == (101, 1, 75)
    assert (round(done.p50_ms), round(done.p95_ms)) == (50, 95)
    assert done.versions == {"1": 50, "2": 50}
    assert tally([]).requests == 0


def test_an_answer_is_read_or_its_problem_is_told() -> None:
    """Anything that is not a whole answer is a problem, not an exception."""
    good = {"degradation": {"level": 0}, "model": {"version": 4}, "predictions": [0.25]}
    assert answer_of(200, orjson.dumps(good), 1.0) == Answer(1.0, 4, 0, 0.25)
    assert answer_of(503, b'{"detail": "no model"}', 1.0).problem == "503: no model"
    assert "gateway" in answer_of(502, b"<html>bad gateway", 1.0).problem
    assert answer_of(200, b"{}", 1.0).problem
    assert answer_of(200, b"[]", 1.0).problem
    assert answer_of(200, orjson.dumps({**good, "predictions": []}), 1.0).problem


def test_a_question_can_be_asked_at_another_moment() -> None:
    """Only the time of the question changes."""
    body = question(NOVEMBER).body()
    assert at(body, NOVEMBER + 1) == {**body, "at": "2013-11-01T04:00:00.000001Z"}


def test_background_traffic_goes_round_and_counts_all() -> None:
    """Questions are asked in turn until the end, and no answer is lost."""
    asked: list[str] = []

    def ask(body: Body) -> Answer:
        asked.append(body["n"])
        return Answer(1.0, version=2 if len(asked) > 20 else 1)

    traffic = Background(ask, [{"n": "a"}, {"n": "b"}], interval_s=0.001).start()
    traffic.wait_for(version=2)
    done = traffic.stop()
    assert done.requests == len(asked) >= 30
    assert asked[:4] == ["a", "b", "a", "b"]
    assert done.versions["1"] == 20


def test_waiting_for_a_version_that_never_answers_ends() -> None:
    """Traffic waits no longer than it is told to."""
    traffic = Background(lambda _: Answer(1.0, version=1), [{}], interval_s=0.001).start()
    traffic.wait_for(version=9, seconds=0.05)
    assert traffic.stop().requests > 0


CALM = Tally(50, 0, 50, 1.0, 2.0, {"1": 20, "2": 30}, [])
FOUND: dict[str, Any] = {
    "from": written(NOVEMBER),
    "until": written(NEW_YEAR),
    "rows": 900,
    "version": 1,
    "compared": 4,
    "drifted": ["a"],
    "columns": [{"column": "a", "psi": 0.9}, {"column": "b", "psi": 0.01}],
}


def decided(*decisions: Retrain | Hold) -> Drifted:
    """A finding with these decisions of as many rules."""
    told = {f"r{i}": {"kind": type(d).__name__, "why": d.why} for i, d in enumerate(decisions)}
    return Drifted(FOUND, told)


def test_the_first_rule_that_wants_it_is_named() -> None:
    """A retraining is done for one rule, with its reason."""
    assert decided(Hold("cool"), Retrain("hot"), Retrain("too")).wanted == ("r1", "hot")
    assert decided(Hold("cool")).wanted is None
    assert "rule r0: Hold: cool" in decided(Hold("cool")).lines


def made(promoted: bool) -> Any:
    """A retrained version 2."""
    told = {"version": 2, "digest": "cd" * 32, "run": "r", "value": 0.7, "report": "", "plot": ""}
    rest = {"baselines": {}, "why": "gate", "promoted": promoted, "trainingSeconds": 1.0}
    return learned({**told, **rest})


def test_a_retraining_holds_if_nobody_noticed() -> None:
    """No request may fail, and a version that became champion must be the one that answers."""
    assert Retrained("hot", made(promoted=True), 2, CALM).held
    assert Retrained("hot", made(promoted=False), 1, CALM).held
    assert Retrained("cool", None, 1, CALM).held
    assert not Retrained("hot", made(promoted=True), 1, CALM).held
    failed = Tally(50, 1, 49, 1.0, 2.0, {}, ["503"])
    assert not Retrained("hot", made(promoted=True), 2, failed).held


def test_what_became_of_a_retraining_is_said() -> None:
    """Promoted, held by a gate or not done at all: the first line says which, and why."""
    assert "is champion and serves: gate" in Retrained("hot", made(True), 2, CALM).lines[0]
    assert "is held: gate" in Retrained("hot", made(False), 1, CALM).lines[0]
    assert Retrained("cool", None, 1, CALM).lines[0] == "no retraining: cool"


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Background traffic ends with its test."""
    import threading

    yield
    assert not [t for t in threading.enumerate() if t.name == "tondo:traffic"]
