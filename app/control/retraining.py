"""Is it time to train again? A pure decision with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.durations import days


@dataclass(frozen=True, slots=True)
class DriftEvidence:
    """What a monitor found: how many columns it could compare, and which of them moved."""

    compared: int
    drifted: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of the compared columns that moved."""
        return len(self.drifted) / self.compared if self.compared else 0.0


@dataclass(frozen=True, slots=True)
class RetrainingPolicy:
    """How much drift it takes and how often it may happen.

    ``cool_down`` is the least time between two runs, ``budget`` the most runs in ``window``; µs.
    """

    min_share: float = 0.0
    cool_down: int = days(1)
    budget: int = 4
    window: int = days(30)


@dataclass(frozen=True, slots=True)
class Retrain:
    """Train again."""

    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Go on with what there is."""

    why: str


Decision = Retrain | Hold


def decide(
    evidence: DriftEvidence, history: Sequence[int], policy: RetrainingPolicy, now: int
) -> Decision:
    """Whether drift is worth a run, given when earlier runs began (UTC µs)."""
    if not evidence.compared:
        return Hold("nothing could be compared: too few rows in the window")
    if not evidence.drifted or evidence.share < policy.min_share:
        return Hold(_calm(evidence, policy))
    last = max(history, default=None)
    if last is not None and now - last < policy.cool_down:
        left = policy.cool_down - (now - last)
        return Hold(f"{_found(evidence)}, but the last run began {_in_hours(now - last)} ago: "
                    f"cooling down for another {_in_hours(left)}")  # fmt: skip
    recent = sum(1 for at in history if now - at < policy.window)
    if recent >= policy.budget:
        return Hold(f"{_found(evidence)}, but {recent} runs in {_in_days(policy.window)} "
                    f"have used up the budget of {policy.budget}")  # fmt: skip
    return Retrain(_found(evidence))


def _found(evidence: DriftEvidence) -> str:
    names = ", ".join(evidence.drifted[:3])
    more = f" and {len(evidence.drifted) - 3} more" if len(evidence.drifted) > 3 else ""
    return f"{len(evidence.drifted)} of {evidence.compared} columns drifted ({names}{more})"


def _calm(evidence: DriftEvidence, policy: RetrainingPolicy) -> str:
    if not evidence.drifted:
        return f"none of {evidence.compared} columns drifted"
    return f"{_found(evidence)}, which is less than the policy's share of {policy.min_share:.0%}"


def _in_hours(us: int) -> str:
    return f"{us / 3_600_000_000:.1f} h"


def _in_days(us: int) -> str:
    return f"{us / 86_400_000_000:.0f} d"
