"""What operators see of a running platform: names, metrics, sockets, commands."""

from __future__ import annotations

import re
from collections.abc import Sequence

import httpx
import psutil
import pytest
import yaml

from tests.installation import DEPLOYMENT, FAMILY, Installation, wait_until
from tests.traffic import Body, Traffic, streamed

SAMPLE = re.compile(r"^(?:ray_)?(tondo_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
RAYS = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId"}
RAYS |= {f"otel_scope_{name}" for name in ("name", "schema_url", "version")}
OURS = {"route", "status", "state", "outcome", "action", "le"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_dashboard_has_readable_names(platform: Installation, served: int) -> None:
    """Actors, the deployment and jobs carry names that people can read."""
    names = {actor["name"] for actor in platform.actors()}
    assert names >= {
        "tondo:control",
        "tondo:predictions",
        "tondo:stream:departures:0",
        "tondo:stream:landings:0",
        "tondo:stream:weather:0",
    }
    assert "ServeReplica:tondo:Predictor" in {a["class_name"] for a in platform.actors()}
    jobs = {job["submission_id"]: job for job in platform.jobs() if job["submission_id"]}
    trained = [name for name in jobs if name.startswith(f"train-{FAMILY}-")]
    assert trained
    assert jobs[trained[0]]["metadata"]["model"] == FAMILY
    assert trained[0] == f"train-{jobs[trained[0]]['metadata']['run']}"


def samples(platform: Installation) -> list[tuple[str, dict[str, str], float]]:
    """The platform's own metrics: name, labels, value."""
    port = platform.port("TONDO_METRICS_PORT")
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30, trust_env=False).text
    return [(n, dict(LABEL.findall(lb or "")), float(v)) for n, lb, v in SAMPLE.findall(text)]


def test_metrics_tell_what_happens(
    platform: Installation, served: int, bodies: Sequence[Body]
) -> None:
    """Requests, latency, feature states, stream and loop are counted on Ray's endpoint."""
    streamed(platform, carrier="ZM", first=0, count=10)
    with Traffic(platform, bodies) as traffic, platform.client() as client:
        client.post("/v1/models/nothing/predict", json={})
        traffic.goes_on(200)
    wanted = {
        "tondo_requests_total",
        "tondo_request_latency_ms_bucket",
        "tondo_feature_states_total",
        "tondo_stream_events_total",
        "tondo_stream_lag_seconds",
        "tondo_reconcile_actions_total",
    }
    wait_until(lambda: wanted <= {n for n, _, _ in samples(platform)}, 30, f"{wanted} are exported")
    found = samples(platform)
    bounds = {float(labels["le"]) for _, labels, _ in found if "le" in labels}
    assert len([bound for bound in bounds if bound < 1.0]) >= 5, "buckets below a millisecond"
    wait_until(
        lambda: {"200", "404"} <= {lb.get("status") for _, lb, _ in samples(platform)},
        30,
        "both statuses are counted",
    )


def test_no_label_grows_with_keys_or_models(
    platform: Installation, served: int, bodies: Sequence[Body]
) -> None:
    """The platform's labels are few and fixed, and none holds a key, a model or a feature."""
    with Traffic(platform, bodies) as traffic:
        traffic.goes_on(100)
    found = wait_until(lambda: samples(platform), 30, "metrics are there")
    own = [{k: v for k, v in labels.items() if k not in RAYS} for _, labels, _ in found]
    assert {name for labels in own for name in labels} <= OURS
    values = {value for labels in own for name, value in labels.items() if name != "le"}
    keys = {value for body in bodies for value in body["entities"].values()}
    assert not values & (keys | {FAMILY, "arrival_delay", "1"})
    assert len(values) < 40


def test_everything_listens_on_loopback(platform: Installation) -> None:
    """Every socket that listens is on loopback, except those that ``doctor`` names."""
    told = " ".join(row["found"] for row in platform.data("doctor") if row["check"] == "bindings")
    named = {int(port) for port in re.findall(r"\((\d+)\)", told)}
    assert named == {
        platform.port("TONDO_SERVING_HAPROXY_METRICS_PORT"),
        platform.port("TONDO_SERVING_HAPROXY_STATS_PORT"),
    }
    pids = {process.pid for process in platform.processes()}
    listening = [
        connection.laddr
        for connection in psutil.net_connections("inet")
        if connection.pid in pids and connection.status == psutil.CONN_LISTEN
    ]
    assert platform.port("TONDO_HTTP_PORT") in {address.port for address in listening}
    outside = [a for a in listening if a.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
    assert {address.port for address in outside} <= named


def arguments(body: Body) -> list[str]:
    """A request as the options of ``tondo features get``."""
    keys = [f"--key={name}={value}" for name, value in body["entities"].items()]
    return [*keys, *(f"--request={name}={value}" for name, value in body["request"].items())]


def test_features_get_shows_what_was_served(
    platform: Installation, served: int, bodies: Sequence[Body]
) -> None:
    """The command line and the service name the same values and states for the same moment."""
    body = bodies[3]
    at = ("--at", body["at"])
    told = platform.data("features", "get", "arrival_delay", *arguments(body), *at, "--explain")
    with platform.client() as client:
        answer = client.post("/v1/features/arrival_delay", json=body)
    assert answer.status_code == 200, answer.text
    assert set(told) >= {"values", "states", "provenance"}
    (row,) = answer.json()["rows"]
    assert (row["values"], row["states"]) == (told["values"], told["states"])
    past = (*at[:1], "2013-11-05T12:00:00Z")
    then = platform.data("features", "get", "arrival_delay", *arguments(body), *past)
    assert then["values"]["carrier_delay__flights_24h"] > 0, "the past is answered from the lake"


def test_commands_say_the_same_in_every_form(platform: Installation, served: int) -> None:
    """Tables for people, JSON and YAML for programs; what is there is in all of them."""
    status = {row["process"]: row for row in platform.data("status")}
    assert all(row["running"] not in ("down", "not answering") for row in status.values()), status
    assert status[DEPLOYMENT]["running"] == f"version {served}"
    assert status["ray"]["why"].count("MiB") == 1
    assert DEPLOYMENT in platform.tondo("status")
    described = platform.data("describe", "Deployment", FAMILY)
    assert described["status"]["phase"] == "Steady"
    assert described["events"][0]["action"] == "create"
    assert yaml.safe_load(platform.tondo("describe", DEPLOYMENT, "-o", "yaml")) == described
    assert FAMILY in platform.tondo("get", "Deployment")
    why = platform.tondo("why", DEPLOYMENT)
    assert why.startswith(f"{DEPLOYMENT}: Steady\n")
    assert f"version {served} is served" in why


def test_wait_says_what_it_waited_for(platform: Installation, served: int) -> None:
    """A condition that holds exits 0; one that does not exits 1 with where it is and a hint."""
    assert platform.tondo("wait", DEPLOYMENT, "--for", "Ready") == f"{DEPLOYMENT} is Ready\n"
    told = platform.tondo("wait", DEPLOYMENT, "--for", "Pending", "--timeout", "0.1", exits=1)
    assert "is not Pending after 0.1 s, but Steady" in told
    assert "Hint: " in told
    assert "Hint: " in platform.tondo("wait", "Deployment/none", "--for", "Ready", exits=1)
