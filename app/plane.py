"""The control plane put together: looks at the world, asks what to do, and does it."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.control.catalog import Catalog
from app.control.definitions import library_of
from app.control.deployment import Candidate, Wanted, progress_of, status_of
from app.control.reconcile import (
    Action,
    Desired,
    Observed,
    Push,
    Remember,
    Served,
    StartActor,
    StopActor,
    Validate,
    reconcile,
)
from app.control.resources import DEFINITIONS, Stored
from app.control.service import ControlService
from app.control.specs import DeploymentSpec
from app.control.world import Validator, World
from app.errors import NotFound, TondoError, Unavailable
from features.clock import Clock
from features.library import Library
from features.plan import resolve
from features.serial import canonical, to_data
from serving.desired import DesiredModel, DesiredState, load_state, save_state
from training.artifacts import ArtifactStore
from training.gallery import Gallery, SqliteGallery

PREDICTIONS = "tondo:predictions"
STREAM = "tondo:stream"
_ROUNDS = 12
_log = logging.getLogger("tondo.control")

Services = tuple[dict[str, Any], ...]
FillSchemas = Callable[[Library], Library]


def stream_actor(stream: str, partition: int) -> str:
    """The name of the actor of one log partition."""
    return f"{STREAM}:{stream}:{partition}"


class ControlPlane:
    """Carried by the control actor; every method may be interrupted and asked again.

    ``state_file`` holds what the replicas were told last, for them and for the next plane.
    """

    def __init__(
        self,
        catalog: Catalog,
        gallery: SqliteGallery | Gallery,
        artifacts: ArtifactStore,
        world: World,
        validate: Validator,
        *,
        clock: Clock,
        state_file: Path,
        fill_schemas: FillSchemas = lambda library: library,
        rows: Callable[[], Mapping[str, int]] = dict,
        staging_timeout_us: int = 60_000_000,
    ) -> None:
        self._catalog = catalog
        self._gallery = gallery
        self._artifacts = artifacts
        self._world = world
        self._validate = validate
        self._clock = clock
        self._state_file = state_file
        self._fill_schemas = fill_schemas
        self._service = ControlService(catalog, gallery, rows)
        self._staging_timeout_us = staging_timeout_us
        self._defined: tuple[object, Library, Services] | None = None

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The answer to a command of the control service."""
        return self._service.ask(command, arguments)

    def close(self) -> None:
        """Lets the next writer in."""
        self._catalog.close()
        if isinstance(self._gallery, SqliteGallery):
            self._gallery.close()

    def step(self) -> Mapping[str, int]:
        """Acts until nothing is left to do; returns the actions done, by kind.

        An action that fails leaves the others alone; the first failure is raised at the end.
        """
        done: Counter[str] = Counter()
        for _ in range(_ROUNDS):
            actions = self._actions()
            failures = [failure for action in actions if (failure := self._tried(action, done))]
            if failures:
                raise failures[0]
            if not actions:
                break
        return done

    def _actions(self) -> tuple[Action, ...]:
        deployments = self._catalog.list("Deployment")
        library, services = self._definitions()
        wanted = tuple(_wanted(stored) for stored in deployments)
        desired = Desired(wanted, services_digest(services), wanted_actors(library))
        observed = self._observed(deployments, wanted)
        timeout = self._staging_timeout_us
        return reconcile(desired, observed, self._clock.now(), staging_timeout=timeout)

    def _observed(self, deployments: tuple[Stored, ...], wanted: tuple[Wanted, ...]) -> Observed:
        told = load_state(self._state_file) or DesiredState(generation=0)
        models = (Served(m.name, m.version, m.digest) for m in told.models)
        return Observed(
            progress={s.resource.name: progress_of(s.status) for s in deployments},
            targets={each.name: self._target(each) for each in wanted},
            pushed=tuple(sorted(models, key=lambda served: served.model)),
            pushed_services=services_digest(told.services),
            replicas=self._world.replicas(),
            actors=self._world.actors(),
        )

    def _target(self, wanted: Wanted) -> Candidate | str:
        try:
            version = self._gallery.get(wanted.family, wanted.reference)
        except NotFound as error:
            return error.what
        return Candidate(version.version, version.digest)

    def _definitions(self) -> tuple[Library, Services]:
        """The library and the plans of its services, made again only when the catalog changed."""
        stored = [s for s in self._catalog.list() if s.resource.kind in DEFINITIONS]
        key = tuple((s.resource.address, s.version) for s in stored)
        complete = self._defined is not None and self._defined[0] == key
        if not complete or self._defined is None:
            library = self._fill_schemas(library_of(s.resource for s in stored))
            plans = tuple(_plans(library))
            unknown = any(source.schema is None for source in library.sources())
            # A table may get its schema at any time, and then the services that read it a plan.
            self._defined = (None if unknown else key, library, plans)
        return self._defined[1], self._defined[2]

    def _tried(self, action: Action, done: Counter[str]) -> Exception | None:
        try:
            self._do(action)
        except Exception as error:
            done["Failure"] += 1
            return error
        done[type(action).__name__] += 1
        return None

    def _do(self, action: Action) -> None:
        if isinstance(action, Remember):
            self._remember(action)
        elif isinstance(action, Validate):
            self._judge(action)
        elif isinstance(action, Push):
            self._push(action)
        elif isinstance(action, StartActor):
            self._world.start(action.name)
        elif isinstance(action, StopActor):
            self._world.stop(action.name)

    def _remember(self, action: Remember) -> None:
        stored = self._catalog.get("Deployment", action.deployment)
        status = status_of(action.progress, self._clock.now(), stored.status)
        self._catalog.set_status("Deployment", action.deployment, status)
        if stored.status.phase != status.phase:
            told = {"deployment": action.deployment, "phase": status.phase}
            _log.info("%s", action.progress.message, extra=told)

    def _judge(self, action: Validate) -> None:
        verdict = self._validate(action.family, action.candidate)
        stored = self._catalog.get("Deployment", action.deployment)
        progress = progress_of(stored.status)
        if progress.target != action.candidate:
            return
        self._remember(Remember(action.deployment, replace(progress, verdict=verdict)))

    def _push(self, action: Push) -> None:
        told = load_state(self._state_file) or DesiredState(generation=0)
        _, services = self._definitions()
        models = tuple(self._model(served) for served in action.models)
        same = (told.models, services_digest(told.services)) == (models, action.services)
        state = told if same else DesiredState(models, services, told.generation + 1)
        # On disk first: a replica that starts meanwhile reads what it should serve.
        save_state(self._state_file, state)
        try:
            self._world.push(state)
        except Unavailable as error:
            _log.warning("not pushed: %s", error.what)

    def _model(self, served: Served) -> DesiredModel:
        path = str(self._artifacts.path(served.digest))
        return DesiredModel(served.model, served.version, path, served.digest)


def services_digest(services: Services) -> str:
    """What tells one set of feature services from another."""
    return hashlib.sha256(canonical(list(services))).hexdigest()[:16]


def _wanted(stored: Stored) -> Wanted:
    spec = DeploymentSpec.model_validate(stored.resource.spec)
    name, generation = stored.resource.name, stored.generation
    return Wanted(name, spec.served_as, spec.family, spec.reference, generation)


def wanted_actors(library: Library) -> frozenset[str]:
    """An actor for every partition of every stream, and the committer of the prediction logs."""
    streams = {s.stream: s.partitions for s in library.sources() if s.stream is not None}
    names = [stream_actor(s, p) for s, count in streams.items() for p in range(count)]
    return frozenset([PREDICTIONS, *names])


def _plans(library: Library) -> list[dict[str, Any]]:
    """The plans of all services that can be resolved; one without its table waits for it."""
    found = []
    for service in sorted(library.services(), key=lambda s: s.name):
        try:
            found.append(to_data(resolve(library, service)))
        except TondoError as error:
            _log.info("service %s waits: %s", service.name, error.what)
    return found
