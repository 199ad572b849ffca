"""The control plane's world on Ray: Serve replicas, named actors, and how to start them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import serve

from actors.control.loop import NAME as CONTROL
from actors.online.prediction_writer import start_prediction_writer
from app.compose import Platform, platform_at
from app.control.deployment import Replica, Slot
from app.errors import Unavailable
from app.lifecycle.cluster import NAMESPACE, Cluster
from app.plane import PREDICTIONS, STREAM, ControlPlane
from app.prediction_table import LakePredictions
from app.replica import build_replica
from app.validation import PackageValidator
from serving.desired import DesiredState
from serving.on_ray import APP, deploy, flush_predictions, predictor_handle, set_models
from serving.on_ray import replica_statuses as statuses_of

_log = logging.getLogger("tondo.control")
_STATUS_SECONDS = 5.0


def build_plane(home: str) -> ControlPlane:
    """The control plane of the installation at ``home``; called in the control actor's process."""
    platform = platform_at(Path(home))
    settings = platform.settings.control
    return ControlPlane(
        platform.catalog_writer("the control actor"),
        platform.gallery_writer("the control actor"),
        platform.artifacts(),
        RayWorld(platform),
        PackageValidator(
            platform.artifacts(), platform.library, timeout_s=settings.validation_timeout_s
        ),
        clock=platform.clock,
        state_file=platform.home.serving_state,
        fill_schemas=platform.with_table_schemas,
        rows=platform.table_rows,
        staging_timeout_us=int(settings.staging_timeout_s * 1_000_000),
    )


class RayWorld:
    """Implements World on the cluster that this process belongs to."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def replicas(self) -> Sequence[Replica] | None:
        """What every replica of the predictor serves."""
        try:
            found = statuses_of(predictor_handle(), timeout_s=_STATUS_SECONDS)
        except Exception as error:
            _log.info("Serve does not answer: %s", type(error).__name__)
            return None
        return [replica_of(statuses) for statuses in found] or None

    def push(self, state: DesiredState) -> None:
        """Tells every replica what to serve."""
        try:
            set_models(predictor_handle(), state)
        except Exception as error:
            raise Unavailable(f"Serve does not answer: {type(error).__name__}: {error}") from error

    def actors(self) -> frozenset[str]:
        """The platform's named actors that the loop starts and stops."""
        return frozenset(name for name in ray.util.list_named_actors() if _is_ours(name))

    def start(self, name: str) -> None:
        """Starts the committer of predictions, or the worker of a log partition."""
        if name == PREDICTIONS:
            opened = partial(open_predictions, str(self._platform.home.root))
            start_prediction_writer(self._platform.home.spool, opened)
            return
        stream, _, partition = name.removeprefix(f"{STREAM}:").rpartition(":")
        self._platform.start_stream_worker(stream, int(partition))

    def stop(self, name: str) -> None:
        """Ends a named actor for good."""
        with suppress(ValueError):
            ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)


def replica_of(statuses: Sequence[Mapping[str, Any]]) -> Replica:
    """One replica's answer as the control loop reads it."""
    return {
        status["name"]: Slot(status["serving"], status["digest"], status["ready"], status["reason"])
        for status in statuses
    }


def open_predictions(home: str) -> LakePredictions:
    """The lake for the committer of predictions, opened in its process."""
    return LakePredictions(platform_at(Path(home)).lake())


def deploy_serving(platform: Platform, cluster: Cluster) -> None:
    """Runs the predictor application behind HAProxy, or updates it."""
    settings = platform.settings
    _quietly(
        lambda: serve.start(http_options={"host": settings.http.host, "port": settings.http.port})
    )
    _quietly(
        lambda: deploy(
            partial(build_replica, cluster.home),
            replicas=settings.serving.replicas,
            num_cpus=settings.serving.replica_cpus,
            max_in_flight=settings.serving.max_in_flight,
        )
    )


def _quietly(work: Callable[[], Any]) -> Any:
    """Without Serve's lines about what it is doing; its warnings stay."""
    logger = logging.getLogger("ray.serve")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return work()
    finally:
        logger.setLevel(before)


def serving_is_up() -> bool:
    """Whether the predictor application runs."""
    try:
        found = serve.status().applications.get(APP)
    except Exception:
        return False
    return found is not None and found.status == "RUNNING"


def finish(connected: Any, *, remove: bool) -> None:
    """Writes down what is in memory; ``remove`` takes our actors from a cluster that goes on."""
    with suppress(Exception):
        _quietly(lambda: flush_predictions(predictor_handle(), timeout_s=5.0))
    with suppress(Exception):
        writer = connected.get_actor(PREDICTIONS, namespace=NAMESPACE)
        connected.get(writer.commit.remote(), timeout=10.0)
    with suppress(Exception):
        control = connected.get_actor(CONTROL, namespace=NAMESPACE)
        connected.get(control.stop.remote(), timeout=10.0)
    if remove:
        _remove(connected)


def _remove(connected: Any) -> None:
    with suppress(Exception):
        serve.delete(APP)
    for name in connected.util.list_named_actors():
        if name == CONTROL or _is_ours(name):
            with suppress(ValueError):
                connected.kill(connected.get_actor(name, namespace=NAMESPACE), no_restart=True)


def _is_ours(name: str) -> bool:
    return name == PREDICTIONS or name.startswith(f"{STREAM}:")
