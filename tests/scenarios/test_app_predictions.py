"""Predictions on a running platform: good requests, and every kind of bad one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest

from tests.installation import DEPLOYMENT, FAMILY, Installation, wait_until
from tests.traffic import Body, Traffic, ask

PATH = f"/v1/models/{FAMILY}/predict"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def client(platform: Installation, served: int) -> httpx.Client:
    """A connection to the service."""
    with platform.client() as client:
        yield client


def changed(body: Body, part: str, **values: Any) -> Any:
    """A body with other values in a part of it; None takes a value out."""
    made = {**body[part], **values}
    return {**body, part: {name: value for name, value in made.items() if value is not None}}


def test_http_and_the_command_line_answer_alike(
    platform: Installation, client: httpx.Client, bodies: Sequence[Body]
) -> None:
    """One question has one answer, by HTTP and by ``tondo predict``, from undegraded features."""
    over_http = client.post(PATH, json=bodies[0]).json()
    assert over_http["model"] == {"family": FAMILY, "version": 1, "arm": "champion"}
    assert over_http["degradation"] == {"level": 0, "features": {}}
    typed = platform.data("predict", FAMILY, "--json", orjson.dumps(bodies[0]).decode())
    assert typed["predictions"] == over_http["predictions"]
    explained = client.post(PATH, params={"explain": "1"}, json=bodies[0]).json()
    assert explained["provenance"][0]["carrier_delay__delay_mean_7d"]["state"] == "value"


def test_rows_answer_as_they_do_alone(client: httpx.Client, bodies: Sequence[Body]) -> None:
    """Many rows in one request get the predictions that each gets by itself, in order."""
    some = bodies[:40]
    alone = [client.post(PATH, json=body).json()["predictions"][0] for body in some]
    rows = [{"entities": body["entities"], "request": body["request"]} for body in some]
    together = client.post(PATH, json={"rows": rows, "at": some[0]["at"]}).json()
    assert together["predictions"] == pytest.approx(alone, abs=1e-6)
    assert len(set(alone)) > 10, "the features make a difference"


def bad_bodies(body: Body) -> dict[str, tuple[int, Any]]:
    """Bad requests with the status that each deserves."""
    deep = b"[" * 500 + b"]" * 500
    return {
        "malformed JSON": (400, b'{"entities": {"carrier": "UA"'),
        "no body": (400, b""),
        "not an object": (400, b"[1, 2, 3]"),
        "500 deep": (400, deep),
        "500 deep inside": (400, b'{"entities": {"carrier": ' + deep + b"}}"),
        "not UTF-8": (400, b'{"entities": {"carrier": "\xff\xfe"}}'),
        "17 MB": (413, b'{"entities": "' + b"x" * 17_000_000 + b'"}'),
        "a key missing": (400, changed(body, "entities", carrier=None)),
        "a key of another type": (400, changed(body, "entities", carrier=7)),
        "a key that is a list": (400, changed(body, "entities", carrier=["UA"])),
        "a field of another type": (400, changed(body, "request", distance="far")),
        "a field that is not a number": (400, changed(body, "request", scheduled_hour=1.5)),
        "an unknown field": (400, changed(body, "request", distanze=1.0)),
        "an unknown key": (400, changed(body, "entities", airline="UA")),
        "an unknown part": (400, {**body, "rquest": {}}),
        "a naive time": (400, {**body, "at": "2013-12-01T05:00:00"}),
        "no time at all": (400, {**body, "at": "yesterday"}),
        "no rows": (400, {"rows": []}),
        "too many rows": (413, {"rows": [{}] * 10_001}),
    }


def test_bad_requests_are_told_what_is_wrong(
    platform: Installation, client: httpx.Client, bodies: Sequence[Body]
) -> None:
    """Each gets its status as problem details with a hint, and nobody else notices."""
    before = platform.pids("ServeReplica:tondo:Predictor")
    with Traffic(platform, bodies, connections=2) as traffic:
        for what, (status, body) in bad_bodies(bodies[0]).items():
            content = body if isinstance(body, bytes) else orjson.dumps(body)
            check_problem(client.post(PATH, content=content), status, what)
            assert ask(client, bodies[0]).status == 200, f"the connection after {what}"
        traffic.goes_on()
    assert traffic.failures == {}
    assert platform.pids("ServeReplica:tondo:Predictor") == before


def test_wrong_addresses_are_told_the_right_ones(
    client: httpx.Client, bodies: Sequence[Body]
) -> None:
    """Unknown models, services and routes are not found, and the hint says what there is."""
    unknown = client.post("/v1/models/flights.arival_delay/predict", json=bodies[0])
    assert FAMILY in check_problem(unknown, 404, "unknown model")["hint"]
    service = client.post("/v1/features/arrival_dely", json=bodies[0])
    assert "arrival_delay" in check_problem(service, 404, "unknown service")["hint"]
    route = check_problem(client.get(PATH), 404, "GET where POST is wanted")
    assert "POST /v1/models/{model}/predict" in route["hint"]
    check_problem(client.delete(PATH), 404, "DELETE")
    check_problem(client.post("/v2/nothing", json={}), 404, "no such route")


def test_strangers_stay_outside(platform: Installation, bodies: Sequence[Body]) -> None:
    """No key, a wrong key and a revoked key are refused; a created one is let in."""
    with httpx.Client(base_url=platform.http, trust_env=False) as nobody:
        refused = nobody.post(PATH, json=bodies[0])
        check_problem(refused, 401, "no key")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert nobody.get("/healthz").status_code == 200
    with platform.client(key="tondo-wrong") as stranger:
        check_problem(stranger.post(PATH, json=bodies[0]), 401, "wrong key")
    key = platform.tondo("keys", "create", "scenario").strip()
    with platform.client(key=key) as guest:
        wait_until(lambda: ask(guest, bodies[0]).status == 200, 5, "the new key is known")
        platform.tondo("keys", "revoke", "scenario")
        wait_until(lambda: ask(guest, bodies[0]).status == 401, 5, "the key is revoked")


def check_problem(answer: httpx.Response, status: int, what: str) -> Any:
    """Problem details of that status which say what is wrong and what to do."""
    told = f"{what}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code == status, told
    assert answer.headers["content-type"] == "application/problem+json", told
    problem = answer.json()
    assert problem["status"] == status, told
    assert problem["detail"], told
    assert problem["hint"], told
    assert problem["request_id"] == answer.headers["x-request-id"], told
    assert "Traceback" not in answer.text, told
    return problem


def test_predict_tells_people_what_the_service_told_it(
    platform: Installation, bodies: Sequence[Body]
) -> None:
    """``tondo predict`` exits 1 for what the service refuses, 2 for what is no JSON."""
    wrong = orjson.dumps(changed(bodies[0], "entities", carrier=None)).decode()
    refused = platform.tondo("predict", FAMILY, "--json", wrong, exits=1)
    assert "carrier" in refused
    assert "Hint: " in refused
    unknown = platform.tondo("predict", "flights.nothing", "--json", "{}", exits=1)
    assert FAMILY in unknown
    assert "Hint: " in platform.tondo("predict", FAMILY, "--json", "{", exits=2)
    assert platform.tondo("wait", DEPLOYMENT, "--for", "Steady", "--timeout", "5")
