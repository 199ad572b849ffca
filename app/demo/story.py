"""The story of the demo: its steps in their order, and what each needs of those before."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from app.compose import Platform
from app.demo.bring_up import bring_up
from app.demo.ingest import define, ingest
from app.demo.learn import compare, learn
from app.demo.memory import PeakMemory
from app.demo.online import materialize, serve
from app.demo.proof import prove
from app.demo.replay import replay
from app.demo.report import Report, Result, Step, failed, step_of, write_report
from app.demo.restart import restart, take_down
from app.demo.retrain import find_drift, retrain
from app.demo.stage import Advance, Stage
from app.errors import BadInput

R = TypeVar("R", bound=Result)
Tell = Callable[[Step], None]


class Ended(Exception):
    """A step failed with an error, so those after it cannot be played."""


class Script:
    """Plays steps one after another and writes down what became of each."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.steps: list[Step] = []

    def act(self, name: str, play: Callable[[], R]) -> R:
        """Plays a step and returns its result. Raises Ended if it failed with an error."""
        started = time.monotonic()
        try:
            result = play()
        except Exception as error:
            self._note(failed(name, error, time.monotonic() - started))
            raise Ended(name) from error
        self._note(step_of(name, result, time.monotonic() - started))
        return result

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        self._tell(step)


def run_demo(platform: Platform, *, days: int, advance: Advance, tell: Tell) -> Report:
    """Plays the whole loop, leaves the platform as it was found, and writes the report.

    ``tell`` hears of each step as it ends. Raises BadInput for less than a day.
    """
    if days < 1:
        raise BadInput(f"--days {days}: nothing would be replayed", "Replay at least one day.")
    started, script = time.monotonic(), Script(tell)
    stage = Stage(platform, days, advance)
    was_up = platform.cluster() is not None
    with PeakMemory(platform.home.cluster) as memory:
        try:
            with suppress(Ended):
                _play(stage, script)
        finally:
            if not was_up:
                _leave(stage, script)
    report = Report(tuple(script.steps), time.monotonic() - started, memory.peak)
    write_report(report, platform.home.reports)
    return report


def _play(stage: Stage, script: Script) -> None:
    up = script.act("platform up", lambda: bring_up(stage))
    script.act("definitions applied", lambda: define(stage))
    script.act("sources in the lake", lambda: ingest(stage))
    made = script.act("model trained and registered", lambda: learn(stage))
    script.act("beside plain XGBoost", lambda: compare(stage, made))
    online = script.act("views online", lambda: materialize(stage))
    script.act("model deployed, first answer", lambda: serve(stage, up, online.period))
    script.act("days replayed over HTTP", lambda: replay(stage, online.period))
    script.act("served equals recomputed", lambda: prove(stage))
    drift = script.act("drift looked for", lambda: find_drift(stage))
    script.act("retraining under traffic", lambda: retrain(stage, drift, online.period))
    if not up.found_running:
        script.act("down and up again", lambda: restart(stage, online.period))


def _leave(stage: Stage, script: Script) -> None:
    with suppress(Ended):
        script.act("platform down", lambda: take_down(stage))
