"""May a candidate replace the champion? A pure decision with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.canvas import Gates
from training.evaluation import RISING

Numbers = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Promote:
    """The candidate may become champion."""

    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The champion stays."""

    why: str


Decision = Promote | Hold


def decide(candidate: Numbers, champion: Numbers | None, gates: Gates, primary: str) -> Decision:
    """Compares test metrics, both measured on the same rows; the first gate that fails holds.

    Without a champion the absolute gates alone decide.
    """
    value = candidate.get(primary)
    if value is None:
        return Hold(f"{primary} of the candidate could not be measured")
    problem = (
        _floor(value, gates, primary)
        or _calibration(candidate, gates)
        or _against(value, champion, gates, primary)
    )
    return Hold(problem) if problem else Promote(_praise(value, champion, primary))


def _floor(value: float, gates: Gates, primary: str) -> str:
    bound = gates.min_primary
    if bound is None or not _worse(value, bound, primary):
        return ""
    return f"{primary} {value:.4f} misses the gate of {bound:.4f}"


def _calibration(candidate: Numbers, gates: Gates) -> str:
    bound, found = gates.max_calibration_error, candidate.get("calibration_error")
    if bound is None or (found is not None and found <= bound):
        return ""
    shown = "could not be measured" if found is None else f"is {found:.4f}"
    return f"calibration error {shown}, the gate is {bound:.4f}"


def _against(value: float, champion: Numbers | None, gates: Gates, primary: str) -> str:
    known = champion.get(primary) if champion else None
    if known is None:
        return ""
    allowed = known - gates.max_loss if primary in RISING else known + gates.max_loss
    if not _worse(value, allowed, primary):
        return ""
    return (
        f"{primary} {value:.4f} is worse than the champion's {known:.4f} on the same rows "
        f"by more than {gates.max_loss:.4f}"
    )


def _worse(value: float, bound: float, primary: str) -> bool:
    return value < bound if primary in RISING else value > bound


def _praise(value: float, champion: Numbers | None, primary: str) -> str:
    known = champion.get(primary) if champion else None
    if known is None:
        return f"{primary} {value:.4f} passes every gate; there is no champion to compare with"
    return f"{primary} {value:.4f} against the champion's {known:.4f} on the same rows"
