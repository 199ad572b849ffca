"""The world as the control loop meets it: replicas and actors that may be there or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.control.deployment import Candidate, Replica, Slot, Verdict
from app.errors import Unavailable
from serving.desired import DesiredState


class World(Protocol):
    """What runs, and how to change it. Every change may be asked for twice."""

    def replicas(self) -> Sequence[Replica] | None:
        """What every replica serves, by model; None while Serve does not answer."""
        ...

    def push(self, state: DesiredState) -> None:
        """Tells every replica what to serve. Raises Unavailable if Serve does not answer."""
        ...

    def actors(self) -> frozenset[str]:
        """The names of the platform's actors that are alive, the control actor left out."""
        ...

    def start(self, name: str) -> None:
        """Starts a named actor, or finds it running."""
        ...

    def stop(self, name: str) -> None:
        """Stops a named actor for good, or finds it gone."""
        ...


class Validator(Protocol):
    """Tries a candidate before anybody depends on it."""

    def __call__(self, family: str, candidate: Candidate) -> Verdict:
        """What was found."""
        ...


class MemoryWorld:
    """A world in memory: replicas load what they are told, unless ``unloadable`` has its digest."""

    def __init__(self, replicas: int = 2) -> None:
        self.count: int | None = replicas
        self.unloadable: dict[str, str] = {}
        self.running: set[str] = set()
        self.pushes: list[DesiredState] = []
        self._held: list[dict[str, Slot]] = [{} for _ in range(replicas)]

    def replicas(self) -> Sequence[Replica] | None:
        """What the replicas hold; None while ``count`` is None."""
        return None if self.count is None else tuple(dict(held) for held in self._held)

    def push(self, state: DesiredState) -> None:
        """Lets every replica load the state."""
        if self.count is None:
            raise Unavailable("Serve does not answer")
        self.pushes.append(state)
        self._held = [self._loaded(held, state) for held in self._held]

    def forget(self) -> None:
        """Replaces every replica by one that holds nothing."""
        self._held = [{} for _ in self._held]

    def actors(self) -> frozenset[str]:
        """The running actors."""
        return frozenset(self.running)

    def start(self, name: str) -> None:
        """Starts an actor."""
        self.running.add(name)

    def stop(self, name: str) -> None:
        """Stops an actor."""
        self.running.discard(name)

    def _loaded(self, held: dict[str, Slot], state: DesiredState) -> dict[str, Slot]:
        slots = {}
        for model in state.models:
            reason = self.unloadable.get(model.digest, "")
            old = held.get(model.name, Slot(None, "", False))
            fresh = Slot(model.version, model.digest, True)
            slots[model.name] = Slot(old.version, old.digest, False, reason) if reason else fresh
        return slots
