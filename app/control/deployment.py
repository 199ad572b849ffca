"""One deployment on its way to what is wanted: a pure state machine.

``Pending → Validating → Staging → Steady ⇄ Degraded``; a candidate that is refused leaves the last
good version serving (``Degraded``), one that the replicas cannot load is taken back
(``RollingBack → RolledBack``); a target that moves mid-flight is ``Superseded``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.control.resources import Condition, Status

PENDING, VALIDATING, STAGING, STEADY = "Pending", "Validating", "Staging", "Steady"
DEGRADED, ROLLING_BACK, ROLLED_BACK = "Degraded", "RollingBack", "RolledBack"
SUPERSEDED = "Superseded"
PHASES = (
    *(PENDING, VALIDATING, STAGING, STEADY),
    *(DEGRADED, ROLLING_BACK, ROLLED_BACK, SUPERSEDED),
)
_IN_FLIGHT = frozenset({VALIDATING, STAGING})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment as it was asked for; ``reference`` is a version or an alias."""

    name: str
    model: str
    family: str
    reference: int | str
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that exists: its number and the digest of its package."""

    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What validation found; an empty ``refused`` means passed. ``again`` may be tried later."""

    refused: str = ""
    hint: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """What one replica says about one model."""

    version: int | None
    digest: str
    ready: bool
    reason: str = ""


Replica = Mapping[str, Slot]


@dataclass(frozen=True, slots=True)
class Progress:
    """What the loop remembers of a deployment between two steps.

    ``target`` is where it is going, ``serving`` the last version that was steady, ``previous`` the
    one before it. ``since`` is when the phase began, UTC µs.
    """

    phase: str = PENDING
    generation: int = 0
    target: Candidate | None = None
    serving: Candidate | None = None
    previous: Candidate | None = None
    verdict: Verdict | None = None
    since: int = 0
    message: str = ""
    operator_message: str = ""
    hint: str = ""

    @property
    def pushed(self) -> Candidate | None:
        """The version that the replicas should hold in this phase."""
        if self.target is not None and self._may_serve_target:
            return self.target
        return self.serving

    @property
    def _may_serve_target(self) -> bool:
        if self.phase in (STAGING, STEADY):
            return True
        return self.phase == DEGRADED and self.target == self.serving


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed for one deployment.

    ``target`` is the resolved version, or why there is none; ``replicas`` is None while Serve does
    not answer.
    """

    target: Candidate | str
    replicas: Sequence[Replica] | None


def advance(
    wanted: Wanted, progress: Progress, seen: Seen, now: int, staging_timeout: int
) -> Progress:
    """The next state of a deployment; the same state if there is nothing to do but wait.

    Validation is somebody else's job: in ``Validating`` without a verdict nothing moves.
    """
    progress = replace(progress, generation=wanted.generation)
    if isinstance(seen.target, str):
        return _without_target(wanted, progress, seen.target, now)
    if progress.target != seen.target:
        return _retarget(progress, seen.target, now)
    if progress.phase == VALIDATING:
        return _validated(progress, now)
    if progress.phase in (SUPERSEDED, PENDING):
        return _begin(progress, seen.target, now)
    if progress.phase == STAGING:
        return _staged(wanted, progress, seen.replicas, now, staging_timeout)
    if progress.phase == ROLLING_BACK:
        return _rolled_back(wanted, progress, seen.replicas, now)
    return _kept(wanted, progress, seen.replicas, now)


def _without_target(wanted: Wanted, progress: Progress, why: str, now: int) -> Progress:
    phase = DEGRADED if progress.serving else PENDING
    hint = f"Promote a version: tondo models promote {wanted.family}:VERSION"
    return _enter(replace(progress, target=None, verdict=None), phase, now, why, hint=hint)


def _retarget(progress: Progress, target: Candidate, now: int) -> Progress:
    moved = replace(progress, target=target, verdict=None)
    if progress.phase in _IN_FLIGHT and progress.target is not None:
        message = f"version {progress.target.version} gave way to {target.version}"
        return _enter(moved, SUPERSEDED, now, message)
    return _begin(moved, target, now)


def _begin(progress: Progress, target: Candidate, now: int) -> Progress:
    """One that was steady before is known to be good and needs no validation."""
    if target in (progress.serving, progress.previous):
        return _enter(progress, STAGING, now, f"going back to version {target.version}")
    return _enter(progress, VALIDATING, now, f"checking version {target.version}")


def _validated(progress: Progress, now: int) -> Progress:
    verdict, target = progress.verdict, progress.target
    if verdict is None or target is None:
        return progress
    if not verdict.refused:
        return _enter(progress, STAGING, now, f"loading version {target.version}")
    return _enter(
        progress,
        DEGRADED,
        now,
        f"version {target.version} was refused: {verdict.refused}{_still(progress.serving)}",
        hint=verdict.hint,
    )


def _staged(
    wanted: Wanted,
    progress: Progress,
    replicas: Sequence[Replica] | None,
    now: int,
    timeout: int,
) -> Progress:
    target = progress.target
    assert target is not None
    problem = _not_ready(wanted, target, replicas)
    if not problem:
        previous = progress.previous if progress.serving == target else progress.serving
        done = replace(progress, serving=target, previous=previous)
        return _enter(done, STEADY, now, f"version {target.version} is served")
    refused = _refusals(wanted, target, replicas)
    if not refused and now - progress.since < timeout:
        return replace(progress, operator_message=problem)
    return _take_back(progress, refused or f"not loaded in time: {problem}", now)


def _take_back(progress: Progress, why: str, now: int) -> Progress:
    target = progress.target
    assert target is not None
    marked = replace(progress, verdict=Verdict(why))
    message = f"version {target.version} was taken back: {why}"
    good = progress.serving not in (None, target)
    return _enter(marked, ROLLING_BACK if good else DEGRADED, now, message)


def _rolled_back(
    wanted: Wanted, progress: Progress, replicas: Sequence[Replica] | None, now: int
) -> Progress:
    good = progress.serving
    assert good is not None
    if _not_ready(wanted, good, replicas):
        return progress
    return _enter(progress, ROLLED_BACK, now, progress.message + _still(good), progress.hint)


def _kept(
    wanted: Wanted, progress: Progress, replicas: Sequence[Replica] | None, now: int
) -> Progress:
    """Steady, Degraded and RolledBack: what is served is compared with what is there."""
    if progress.verdict is not None and progress.verdict.refused:
        return _again(progress, now)
    serving = progress.serving
    if serving is None or progress.target != serving:
        assert progress.target is not None
        return _enter(progress, VALIDATING, now, f"checking version {progress.target.version}")
    problem = _not_ready(wanted, serving, replicas)
    if problem:
        return _enter(progress, DEGRADED, now, _told(problem), operator_message=problem)
    return _enter(progress, STEADY, now, f"version {serving.version} is served")


def _again(progress: Progress, now: int) -> Progress:
    """A refusal that may pass (a store was away) is tried again after a minute."""
    verdict = progress.verdict
    if verdict is None or not verdict.again or now - progress.since < _RETRY:
        return progress
    message = f"trying again: {verdict.refused}"
    return _enter(replace(progress, verdict=None), VALIDATING, now, message)


_RETRY = 60_000_000


def _not_ready(wanted: Wanted, candidate: Candidate, replicas: Sequence[Replica] | None) -> str:
    """Why the candidate is not served by every replica; empty if it is."""
    if replicas is None:
        return "Serve does not answer"
    if not replicas:
        return "no replica is up"
    ready = sum(_serves(replica.get(wanted.model), candidate) for replica in replicas)
    return "" if ready == len(replicas) else f"{ready} of {len(replicas)} replicas serve it"


def _serves(slot: Slot | None, candidate: Candidate) -> bool:
    same = slot is not None and (slot.version, slot.digest) == (candidate.version, candidate.digest)
    return same and slot is not None and slot.ready


def _refusals(wanted: Wanted, target: Candidate, replicas: Sequence[Replica] | None) -> str:
    """What replicas said against the target itself."""
    slots = [replica.get(wanted.model) for replica in replicas or ()]
    said = [s.reason for s in slots if s is not None and s.reason and not _serves(s, target)]
    return said[0] if said else ""


def _told(problem: str) -> str:
    return f"predictions may be slow or refused: {problem}"


def _still(serving: Candidate | None) -> str:
    if serving is None:
        return "; nothing is served"
    return f"; version {serving.version} goes on serving"


def _enter(
    progress: Progress,
    phase: str,
    now: int,
    message: str,
    hint: str = "",
    operator_message: str = "",
) -> Progress:
    """The phase, entered now unless it is the same already."""
    since = progress.since if progress.phase == phase else now
    return replace(
        progress,
        phase=phase,
        since=since,
        message=message,
        hint=hint,
        operator_message=operator_message,
    )


def status_of(progress: Progress, now: int, before: Status) -> Status:
    """The status to show: Ready and Serving, each told to its owner and to the operator."""
    ready = progress.phase == STEADY
    serves = progress.pushed is not None
    served = f"version {progress.pushed.version}" if progress.pushed else "nothing"
    conditions = (
        Condition(
            "Ready", ready, progress.phase, progress.message, progress.operator_message,
            progress.hint,
        ),
        Condition("Serving", serves, progress.phase, f"{served} answers", ""),
    )  # fmt: skip
    kept = tuple(_dated(condition, before, now) for condition in conditions)
    return Status(progress.generation, progress.phase, kept, progress_data(progress))


def _dated(condition: Condition, before: Status, now: int) -> Condition:
    old = before.condition(condition.type)
    same = old is not None and (old.status, old.reason) == (condition.status, condition.reason)
    return replace(condition, at=old.at if same and old is not None else now)


def progress_data(progress: Progress) -> dict[str, Any]:
    """Progress as JSON-able data, kept in the status."""
    verdict = progress.verdict
    return {
        "target": _candidate_data(progress.target),
        "serving": _candidate_data(progress.serving),
        "previous": _candidate_data(progress.previous),
        "verdict": verdict
        and {"refused": verdict.refused, "hint": verdict.hint, "again": verdict.again},
        "since": progress.since,
    }


def progress_of(status: Status) -> Progress:
    """Progress as it was kept in a status."""
    if not status.detail:
        return Progress()
    ready = status.condition("Ready")
    detail = status.detail
    verdict = detail.get("verdict")
    return Progress(
        phase=status.phase or PENDING,
        generation=status.observed_generation,
        target=_candidate(detail.get("target")),
        serving=_candidate(detail.get("serving")),
        previous=_candidate(detail.get("previous")),
        verdict=Verdict(**verdict) if verdict else None,
        since=int(detail.get("since", 0)),
        message=ready.message if ready else "",
        operator_message=ready.operator_message if ready else "",
        hint=ready.hint if ready else "",
    )


def _candidate_data(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return {"version": candidate.version, "digest": candidate.digest}


def _candidate(data: Mapping[str, Any] | None) -> Candidate | None:
    return Candidate(data["version"], data["digest"]) if data else None
