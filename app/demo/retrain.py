"""December's storms: drift is found, a rule decides, and a retraining passes its gates or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.control.retraining import Decision, Retrain
from app.demo.learn import Learned, learned
from app.demo.online import wait_until_served
from app.demo.replay import questions
from app.demo.stage import (
    DECEMBER,
    FAMILY,
    MONITOR,
    NEW_YEAR,
    NOVEMBER,
    PROJECT,
    Period,
    Stage,
    clock_text,
)
from app.demo.traffic import Background, Tally, asking
from app.drift import DriftFound, because, check_drift, decide_by
from app.moments import written
from app.training_jobs import Asked, submit

SETTINGS = {
    "train_until": written(NOVEMBER),
    "validate_until": written(DECEMBER),
    "baselines": "none",
}
"""October is learned from as well, November stops the training, December judges both models; what
the request alone is worth is known by now."""
_SHOWN, _QUESTIONS = 5, 100


@dataclass(frozen=True, slots=True)
class Drifted:
    """What the monitor found, and what each rule says to it."""

    found: Mapping[str, Any]
    decisions: Mapping[str, Mapping[str, str]]

    @property
    def held(self) -> bool:
        """Columns were compared; whether they drifted is the world's business."""
        return int(self.found["compared"]) > 0

    @property
    def lines(self) -> tuple[str, ...]:
        """How many columns drifted, the most moved of them, and every decision."""
        found, most = self.found, self.found["columns"][:_SHOWN]
        window = f"{_day(found['from'])} to {_day(found['until'])}"
        moved = ", ".join(f"{column['column']} {column['psi']:.2f}" for column in most)
        return (
            f"{window}, {found['rows']:,} flights against version {found['version']}'s training: "
            f"{len(found['drifted'])} of {found['compared']} columns drifted",
            f"most moved (PSI): {moved}",
            *(f"rule {name}: {made['kind']}: {made['why']}" for name, made in self._decisions),
        )

    @property
    def _decisions(self) -> list[tuple[str, Mapping[str, str]]]:
        return list(self.decisions.items())

    @property
    def wanted(self) -> tuple[str, str] | None:
        """The first rule that wants a retraining, and why."""
        wanting = [(n, m["why"]) for n, m in self._decisions if m["kind"] == Retrain.__name__]
        return wanting[0] if wanting else None


@dataclass(frozen=True, slots=True)
class Retrained:
    """A retraining under traffic: the new version if one was made, and what was asked meanwhile."""

    why: str
    made: Learned | None
    champion: int
    answers: Tally

    @property
    def held(self) -> bool:
        """No request failed, and what became champion is what answers."""
        new = self.made is None or not self.made.promoted or self.champion == self.made.version
        return new and self.answers.requests > 0 and not self.answers.failures

    @property
    def lines(self) -> tuple[str, ...]:
        """What became of it."""
        told = self.answers
        versions = ", ".join(f"version {v}: {count:,}" for v, count in told.versions.items())
        return (
            self._outcome,
            f"{told.requests:,} predictions asked meanwhile, {told.failures} failed ({versions})",
            *told.problems,
        )

    @property
    def _outcome(self) -> str:
        if self.made is None:
            return f"no retraining: {self.why}"
        became = "is champion and serves" if self.made.promoted else "is held"
        return f"{FAMILY}:{self.made.version} {became}: {self.made.why}"


def find_drift(stage: Stage) -> Drifted:
    """Compares December with the champion's training months, and asks the rules."""
    found = check_drift(stage.platform, MONITOR, (DECEMBER, NEW_YEAR), stage.advance)
    return drifted(found, decide_by(stage.platform, found))


def drifted(found: DriftFound, decisions: Mapping[str, Decision]) -> Drifted:
    """A finding and its decisions as data."""
    told = {n: {"kind": type(d).__name__, "why": d.why} for n, d in decisions.items()}
    return Drifted(found.data(), told)


def retrain(stage: Stage, drift: Drifted, period: Period) -> Retrained:
    """Does what was decided, while predictions are asked for without a pause."""
    bodies = questions(stage, period, _QUESTIONS, period.end)
    with asking(stage.platform, FAMILY) as ask:
        traffic = Background(ask, bodies).start()
        try:
            made = _run(stage, drift)
            champion = wait_until_served(stage)
            traffic.wait_for(champion)
        finally:
            answers = traffic.stop()
    return Retrained(_reason(drift), made, champion, answers)


def _run(stage: Stage, drift: Drifted) -> Learned | None:
    wanted = drift.wanted
    if wanted is None:
        return None
    rule, why = wanted
    reason = because(rule, Retrain(why))
    asked = Asked(FAMILY, SETTINGS, project=PROJECT, promote=True, why=reason)
    return learned(submit(stage.platform, asked, stage.advance))


def _reason(drift: Drifted) -> str:
    if drift.wanted is not None:
        return drift.wanted[1]
    return "; ".join(made["why"] for made in drift.decisions.values()) or "no rule watches this"


def _day(text: str) -> str:
    from app.moments import read_moment

    return clock_text(read_moment(text))
