"""Down and up again: what was served before is served at once, from what is on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.demo.online import first_answer
from app.demo.stage import Period, Stage
from app.lifecycle.down import down
from app.lifecycle.up import up

_GOAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Restarted:
    """Seconds from ``up`` to the first answered prediction, and what it was."""

    down_s: float
    answered_s: float
    version: int
    problem: str

    @property
    def held(self) -> bool:
        """It was answered."""
        return not self.problem

    @property
    def lines(self) -> tuple[str, ...]:
        """How long it took."""
        if self.problem:
            return (f"no answer after the restart: {self.problem}",)
        goal = "within" if self.answered_s <= _GOAL_S else "beyond"
        return (
            f"version {self.version} answers {self.answered_s:.1f} s after `up` began, "
            f"{goal} the goal of {_GOAL_S:.0f} s (down took {self.down_s:.1f} s)",
        )


@dataclass(frozen=True, slots=True)
class Down:
    """What ``down`` said."""

    told: str

    @property
    def held(self) -> bool:
        """It is down, or an error would have been raised."""
        return True

    @property
    def lines(self) -> tuple[str, ...]:
        """Its one line."""
        return (self.told,)


def restart(stage: Stage, period: Period) -> Restarted:
    """Stops the platform, starts it again, and asks as soon as it answers."""
    began = time.monotonic()
    down(stage.platform, stage.advance)
    stopped = time.monotonic()
    up(stage.platform, None, stage.advance)
    answer, _ = first_answer(stage, period)
    return Restarted(
        down_s=stopped - began,
        answered_s=time.monotonic() - stopped,
        version=answer.version,
        problem=answer.problem,
    )


def take_down(stage: Stage) -> Down:
    """Leaves nothing running; all state stays in the home directory."""
    return Down(down(stage.platform, stage.advance))
