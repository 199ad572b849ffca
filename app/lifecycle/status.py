"""``tondo status``: the process table, live; it works while any part of it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from app.compose import Platform
from app.control.resources import Stored
from app.lifecycle.cluster import NAMESPACE, Cluster, connect, read_cluster
from app.lifecycle.processes import memory_of, processes_of
from features.library import Library

_SECONDS = 10.0
UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class Row:
    """One process or deployment: what is wanted, what is there, why they differ."""

    process: str
    desired: str
    running: str
    why: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Live:
    """What the cluster says: actors with their state, the control loop, Serve, running jobs."""

    actors: Mapping[str, str]
    control: Mapping[str, Any]
    replicas: int | None
    serving: str
    jobs: tuple[str, ...]


def status(platform: Platform) -> list[Row]:
    """The table, as far as it can be found out."""
    cluster = read_cluster(platform.home.cluster)
    with platform.catalog() as catalog:
        stored = catalog.list()
    library = platform.library()
    if cluster is None or not cluster.alive():
        wanted = DOWN if cluster is None else UP
        why = "" if cluster is None else "its first process has ended; start it again: tondo up"
        return [Row("ray", wanted, DOWN, why), *_deployments(stored, None)]
    live = _look(cluster)
    if isinstance(live, str):
        return [Row("ray", UP, "not answering", live), *_deployments(stored, None)]
    return [
        _ray(cluster),
        _control(live),
        *_serving(platform, live),
        *_actors(library, live),
        *(Row(job, "running", "running") for job in live.jobs),
        *_deployments(stored, live),
    ]


def _look(cluster: Cluster) -> Live | str:
    """What the cluster says, or why it says nothing; Ray waits long for a head that is gone."""
    answers: SimpleQueue[Live | str] = SimpleQueue()
    # A daemon: this process must be able to end while Ray is still waiting.
    Thread(target=_answer, args=(cluster, answers), daemon=True).start()
    try:
        return answers.get(timeout=3 * _SECONDS)
    except Empty:
        return f"no answer from {cluster.address} in {3 * _SECONDS:g} s"


def _answer(cluster: Cluster, answers: SimpleQueue[Live | str]) -> None:
    try:
        answers.put(_asked(cluster))
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}".splitlines()[0])


def _asked(cluster: Cluster) -> Live:
    from actors.control.loop import NAME

    ray = connect(cluster)
    states = _actor_states(cluster)
    control: Mapping[str, Any] = {}
    if NAME in states:
        try:
            actor = ray.get_actor(NAME, namespace=NAMESPACE)
            control = ray.get(actor.status.remote(), timeout=_SECONDS)
        except Exception as error:
            control = {"failure": f"{type(error).__name__}: {error}".splitlines()[0]}
    serving, replicas = _serve_state()
    return Live(states, control, replicas, serving, _jobs(cluster))


def _actor_states(cluster: Cluster) -> dict[str, str]:
    from ray.util.state import list_actors

    # Without an address Ray asks whichever cluster was started last on this machine.
    found = list_actors(cluster.dashboard, limit=1_000, raise_on_missing_output=False)
    ours = [a for a in found if a.name and a.ray_namespace == NAMESPACE]
    # Of two actors of one name the living one counts.
    return {a.name: a.state for a in sorted(ours, key=lambda a: a.state != "DEAD")}


def _serve_state() -> tuple[str, int | None]:
    from ray import serve

    from serving.on_ray import APP, DEPLOYMENT

    try:
        found = serve.status().applications.get(APP)
    except Exception as error:
        return f"Serve does not answer: {type(error).__name__}", None
    if found is None:
        return "the application is not deployed", None
    states = found.deployments[DEPLOYMENT].replica_states if found.deployments else {}
    return str(found.status), int(states.get("RUNNING", 0))


def _jobs(cluster: Cluster) -> tuple[str, ...]:
    from app.jobs import running_jobs

    try:
        return running_jobs(cluster)
    except Exception:
        return ()


def _ray(cluster: Cluster) -> Row:
    found = processes_of(cluster)
    memory = memory_of(found) / 2**20
    return Row("ray", UP, UP, f"{len(found)} processes, {memory:,.0f} MiB, {cluster.address}")


def _control(live: Live) -> Row:
    control = live.control
    if not control:
        return Row("tondo:control", UP, DOWN, "start it again: tondo up")
    if "failure" in control:
        return Row("tondo:control", UP, "not answering", control["failure"])
    told = f"{control['steps']} steps, {control['failures']} failed"
    last = f"; last: {control['last_failure']}" if control["last_failure"] else ""
    return Row("tondo:control", UP, UP, told + last)


def _serving(platform: Platform, live: Live) -> list[Row]:
    wanted = platform.settings.serving.replicas
    running = "-" if live.replicas is None else str(live.replicas)
    why = "" if live.replicas == wanted else live.serving
    return [Row("predictor replicas", str(wanted), running, why)]


def _actors(library: Library, live: Live) -> list[Row]:
    from app.plane import wanted_actors

    rows = []
    for name in sorted(wanted_actors(library)):
        state = live.actors.get(name, "DEAD")
        up = state == "ALIVE"
        rows.append(Row(name, UP, UP if up else DOWN, "" if up else state.lower()))
    return rows


def _deployments(stored: tuple[Stored, ...], live: Live | None) -> list[Row]:
    return [_deployment(s, live) for s in stored if s.resource.kind == "Deployment"]


def _deployment(stored: Stored, live: Live | None) -> Row:
    spec, status = stored.resource.spec, stored.status
    ready = status.condition("Ready")
    wanted = _reference(spec)
    if live is None:
        return Row(stored.resource.address, wanted, DOWN, "nothing is up: tondo up")
    serving = status.detail.get("serving")
    running = f"version {serving['version']}" if serving else "-"
    why = "" if status.phase == "Steady" else f"{status.phase}: {ready.message if ready else ''}"
    return Row(stored.resource.address, wanted, running, why)


def _reference(spec: Mapping[str, Any]) -> str:
    """``family:3`` or ``family@alias``, as it is typed elsewhere."""
    version = str(spec["version"])
    return (
        f"{spec['family']}:{version}"
        if version.isdecimal()
        else (f"{spec['family']}@{version.removeprefix('@')}")
    )
