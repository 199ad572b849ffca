"""A training set, a model from it, and what it is worth beside those that know less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.demo.bring_up import champion_of
from app.demo.plain import train_plainly
from app.demo.stage import FAMILY, PROJECT, SERVICE, Stage
from app.project import find_model, load_model
from app.training_jobs import Asked, submit
from training.canvas import CanvasModel

PAIRS = {
    SERVICE: "arrival_delay_request_only",
    "arrival_delay_with_dep_delay": "arrival_delay_request_with_dep_delay",
}
"""Services with history, each with the one that has the request's fields alone."""
_MEANING = {
    SERVICE: "before the gate's own delay is known",
    "arrival_delay_with_dep_delay": "with the departure delay known",
}
_GOAL_S = 20.0


@dataclass(frozen=True, slots=True)
class Learned:
    """A registered version; ``auc`` is by service, all on the same test months."""

    version: int
    digest: str
    run: str
    auc: Mapping[str, float]
    why: str
    promoted: bool
    report: str
    plot: str
    training_seconds: float

    @property
    def held(self) -> bool:
        """History beats the request's fields alone, with and without the departure delay."""
        return all(self.auc[rich] > self.auc[poor] for rich, poor in PAIRS.items())

    @property
    def lines(self) -> tuple[str, ...]:
        """Both pairs of AUC, and what became of the version."""
        state = "champion" if self.promoted else "registered"
        return (
            *(self._pair(rich, poor) for rich, poor in PAIRS.items()),
            f"{FAMILY}:{self.version} ({self.digest[:12]}) is {state}: {self.why}",
            f"report {self.report}",
        )

    def _pair(self, rich: str, poor: str) -> str:
        ours, theirs = self.auc[rich], self.auc[poor]
        return (
            f"AUC {ours:.4f} with features, {theirs:.4f} from the request alone ({_MEANING[rich]})"
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds on Ray Train and of plain XGBoost on the same files; AUC on the validation rows."""

    ray_seconds: float
    plain_seconds: float
    rounds: int
    auc: float

    @property
    def held(self) -> bool:
        """It was measured; the goal is a goal."""
        return True

    @property
    def lines(self) -> tuple[str, ...]:
        """Both times and their difference."""
        more = self.ray_seconds - self.plain_seconds
        goal = "within" if more <= _GOAL_S else "beyond"
        return (
            f"XGBoost on Ray Train {self.ray_seconds:.1f} s, plain {self.plain_seconds:.1f} s: "
            f"{more:+.1f} s, {goal} the goal of {_GOAL_S:.0f} s",
        )


def learn(stage: Stage) -> Learned:
    """Trains as a Ray job; the first version that passes its gates becomes champion."""
    first = champion_of(stage) is None
    asked = Asked(FAMILY, {}, project=PROJECT, promote=first, why="tondo demo")
    return learned(submit(stage.platform, asked, stage.advance))


def learned(done: Mapping[str, Any]) -> Learned:
    """What a training job said when it ended."""
    baselines = {name: float(value or 0.0) for name, value in done["baselines"].items()}
    return Learned(
        version=done["version"],
        digest=done["digest"],
        run=done["run"],
        auc={SERVICE: float(done["value"]), **baselines},
        why=done["why"],
        promoted=done["promoted"],
        report=done["report"],
        plot=done["plot"],
        training_seconds=float(done["trainingSeconds"]),
    )


def compare(stage: Stage, made: Learned) -> Compared:
    """Trains on the same files without Ray and without us."""
    stage.advance("plain XGBoost on the same files", 0, 0)
    plain = train_plainly(flights_model(), _data(stage, made))
    return Compared(made.training_seconds, plain.seconds, plain.rounds, plain.auc)


def flights_model() -> CanvasModel:
    """The example's model as its code says."""
    return load_model(find_model(FAMILY, [PROJECT]))


def _data(stage: Stage, made: Learned) -> Path:
    return stage.platform.home.training / made.run / "data"
