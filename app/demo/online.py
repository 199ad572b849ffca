"""Views come online, the champion is served, and the first prediction is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app import online_jobs
from app.control.resources import Stored
from app.demo.bring_up import Up, champion_of
from app.demo.replay import next_period, questions
from app.demo.stage import DEPLOYMENT, FAMILY, SERVICE, Period, Stage, clock_text
from app.demo.traffic import Answer, asking
from app.errors import Unavailable
from features.plan import resolve

_STEADY_SECONDS = 120.0
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Materialized:
    """Views that came online as new versions, cut where ``period`` begins; keys by view."""

    period: Period
    keys: Mapping[str, int]
    versions: Mapping[str, int]

    @property
    def held(self) -> bool:
        """Every view has entities."""
        return bool(self.keys) and all(self.keys.values())

    @property
    def lines(self) -> tuple[str, ...]:
        """Keys by view."""
        views = ", ".join(f"{view} {count:,}" for view, count in self.keys.items())
        total = sum(self.keys.values())
        return (
            f"{total:,} entities known until {clock_text(self.period.start)}, in LMDB: {views}",
        )


@dataclass(frozen=True, slots=True)
class Serving:
    """The first answer; ``since_up_s`` counts from the beginning of ``up``."""

    version: int
    prediction: float | None
    level: int
    problem: str
    steady_s: float
    since_up_s: float

    @property
    def held(self) -> bool:
        """It was answered."""
        return not self.problem

    @property
    def lines(self) -> tuple[str, ...]:
        """Which version answered what, and when."""
        if self.problem:
            return (f"the first prediction failed: {self.problem}",)
        return (
            f"deployed in {self.steady_s:.1f} s; {FAMILY}:{self.version} answers "
            f"{self.prediction:.4f} (degradation level {self.level})",
            f"{self.since_up_s:.1f} s after `up` began, ingest and training included",
        )


def materialize(stage: Stage) -> Materialized:
    """Brings every view of the service online with what was known before the replay begins."""
    plan, period = resolve(stage.platform.library(), SERVICE), next_period(stage)
    done = [
        online_jobs.materialize(stage.platform, view.view, period.start, stage.advance)
        for view in plan.views
    ]
    return Materialized(
        period=period,
        keys={made["view"].partition("@")[0]: made["keys"] for made in done},
        versions={made["view"].partition("@")[0]: made["version"] for made in done},
    )


def serve(stage: Stage, up: Up, period: Period) -> Serving:
    """Waits until the champion is served, and asks it once."""
    began = time.monotonic()
    answer, steady_s = first_answer(stage, period)
    ended = time.monotonic()
    return Serving(
        version=answer.version,
        prediction=answer.prediction,
        level=answer.level,
        problem=answer.problem,
        steady_s=steady_s - began,
        since_up_s=ended - up.began,
    )


def first_answer(stage: Stage, period: Period) -> tuple[Answer, float]:
    """The answer of the champion, and when it began to be served (monotonic, s)."""
    (question,) = questions(stage, period, 1, period.start)
    wait_until_served(stage)
    steady = time.monotonic()
    with asking(stage.platform, FAMILY) as ask:
        return ask(question), steady


def wait_until_served(stage: Stage) -> int:
    """Waits until the deployment is steady with the champion; returns the champion's number."""
    stage.advance("waiting for the deployment", 0, 0)
    champion = champion_of(stage)
    if champion is None:
        raise Unavailable(f"{FAMILY} has no champion", "Its first version did not pass its gates.")

    def read() -> Stored:
        with stage.platform.catalog() as catalog:
            return catalog.get("Deployment", DEPLOYMENT)

    wait_for(read, lambda stored: serves(stored, champion), _STEADY_SECONDS)
    return champion


def serves(stored: Stored, version: int) -> bool:
    """Whether a deployment is steady with that version."""
    status = stored.status
    serving: Mapping[str, Any] = status.detail.get("serving") or {}
    return (
        status.phase == "Steady"
        and status.observed_generation >= stored.generation
        and serving.get("version") == version
    )


def wait_for(read: Callable[[], Stored], holds: Callable[[Stored], bool], seconds: float) -> Stored:
    """Looks again and again until a resource is as wanted. Raises Unavailable with where it is."""
    limit = time.monotonic() + seconds
    while not holds(stored := read()):
        if time.monotonic() > limit:
            raise _late(stored, seconds)
        time.sleep(_POLL_SECONDS)
    return stored


def _late(stored: Stored, seconds: float) -> Unavailable:
    address, ready = stored.resource.address, stored.status.condition("Ready")
    told = f": {ready.message}" if ready and ready.message else ""
    return Unavailable(
        f"{address} is {stored.status.phase or 'not looked at'} after {seconds:g} s{told}",
        f"Ask: tondo why {address}",
    )
