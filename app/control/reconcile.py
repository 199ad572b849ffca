"""From what should be and what is to what must be done: pure, and the same however often asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.control.deployment import (
    VALIDATING,
    Candidate,
    Progress,
    Replica,
    Seen,
    Wanted,
    advance,
)


@dataclass(frozen=True, slots=True)
class Served:
    """One model as the replicas should serve it."""

    model: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be: deployments, the feature services' digest, and the named actors."""

    deployments: tuple[Wanted, ...] = ()
    services: str = ""
    actors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Observed:
    """What is. ``targets`` holds a candidate per deployment, or why there is none.

    ``pushed`` and ``pushed_services`` are what the replicas were told last; ``replicas`` is None
    while Serve does not answer; ``actors`` are those alive whose names the platform owns.
    """

    progress: Mapping[str, Progress] = field(default_factory=dict)
    targets: Mapping[str, Candidate | str] = field(default_factory=dict)
    pushed: tuple[Served, ...] = ()
    pushed_services: str = ""
    replicas: Sequence[Replica] | None = None
    actors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Validate:
    """Try a candidate's package in a child process and remember the verdict."""

    deployment: str
    family: str
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Push:
    """Tell every replica what to serve; ``services`` is the digest of the feature services."""

    models: tuple[Served, ...]
    services: str


@dataclass(frozen=True, slots=True)
class StartActor:
    """Start a named actor, or find it running."""

    name: str


@dataclass(frozen=True, slots=True)
class StopActor:
    """Stop a named actor that nothing wants any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Write down where a deployment stands."""

    deployment: str
    progress: Progress


Action = Validate | Push | StartActor | StopActor | Remember


def reconcile(
    desired: Desired, observed: Observed, now: int, *, staging_timeout: int = 60_000_000
) -> tuple[Action, ...]:
    """The actions that bring what is closer to what should be; none when nothing is left to do.

    Every action may be lost or done twice: the next call asks for it again, or finds it done.
    """
    taken = _one_per_model(desired.deployments)
    states = {
        wanted.name: advance(
            wanted,
            observed.progress.get(wanted.name, Progress()),
            Seen(_target(wanted, taken, observed), observed.replicas),
            now,
            staging_timeout,
        )
        for wanted in desired.deployments
    }
    return (
        *_remember(states, observed),
        *_validate(desired, states),
        *_push(desired, states, observed),
        *_actors(desired, observed),
    )


def _one_per_model(deployments: Sequence[Wanted]) -> dict[str, str]:
    """Model → the deployment that may have the name: the first by name."""
    owners: dict[str, str] = {}
    for wanted in sorted(deployments, key=lambda w: w.name):
        owners.setdefault(wanted.model, wanted.name)
    return owners


def _target(wanted: Wanted, owners: Mapping[str, str], observed: Observed) -> Candidate | str:
    if owners[wanted.model] != wanted.name:
        return f"deployment {owners[wanted.model]} already serves as {wanted.model}"
    return observed.targets.get(wanted.name, f"{wanted.family} has no version yet")


def _remember(states: Mapping[str, Progress], observed: Observed) -> list[Action]:
    return [
        Remember(name, progress)
        for name, progress in states.items()
        if observed.progress.get(name) != progress
    ]


def _validate(desired: Desired, states: Mapping[str, Progress]) -> list[Action]:
    found: list[Action] = []
    for wanted in desired.deployments:
        progress = states[wanted.name]
        waiting = progress.phase == VALIDATING and progress.verdict is None
        if waiting and progress.target is not None:
            found.append(Validate(wanted.name, wanted.family, progress.target))
    return found


def _push(desired: Desired, states: Mapping[str, Progress], observed: Observed) -> list[Action]:
    models = _models(desired, states)
    told = (observed.pushed, observed.pushed_services) == (models, desired.services)
    if told and not _forgotten(models, observed.replicas):
        return []
    return [Push(models, desired.services)]


def _models(desired: Desired, states: Mapping[str, Progress]) -> tuple[Served, ...]:
    chosen = {}
    for wanted in sorted(desired.deployments, key=lambda w: w.name, reverse=True):
        candidate = states[wanted.name].pushed
        if candidate is not None:
            chosen[wanted.model] = Served(wanted.model, candidate.version, candidate.digest)
    return tuple(chosen[model] for model in sorted(chosen))


def _forgotten(models: Sequence[Served], replicas: Sequence[Replica] | None) -> bool:
    """Whether a replica that answers holds another state than the one that was pushed.

    One that refuses a model and says why has been told; telling it again would not help.
    """
    return any(_differs(models, replica) for replica in replicas or ())


def _differs(models: Sequence[Served], replica: Replica) -> bool:
    if set(replica) != {served.model for served in models}:
        return True
    slots = ((served, replica[served.model]) for served in models)
    return any(
        not slot.reason and (slot.version, slot.digest) != (served.version, served.digest)
        for served, slot in slots
    )


def _actors(desired: Desired, observed: Observed) -> list[Action]:
    missing = sorted(desired.actors - observed.actors)
    unwanted = sorted(observed.actors - desired.actors)
    return [*(StartActor(name) for name in missing), *(StopActor(name) for name in unwanted)]
