"""The HTTP shell: statuses, problems, bodies in parts, and the lane past Serve's own path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from features.errors import Unavailable
from serving.http import MAX_BODY, FastLane

BODY = {
    "entities": {"carrier": "UA"},
    "request": {"distance": 100, "hour": 18, "dest": "BOS"},
}


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/v1/models/late/predict", "POST", BODY, 200),
        ("/v1/models/other/predict", "POST", BODY, 404),
        ("/v1/models/late/predict", "GET", BODY, 404),
        ("/v1/models/late", "POST", BODY, 404),
        ("/v1/models/late/predict", "POST", b"{", 400),
        ("/v1/models/late/predict", "POST", b"", 400),
        ("/v1/models/late/predict", "POST", {"entities": {"carrier": 3}}, 400),
        ("/v1/models/late/predict", "POST", {"rows": []}, 400),
        ("/v1/models/late/predict", "POST", {"rows": [BODY] * 10_001}, 413),
        ("/v1/models/late/predict", "POST", b" " * (MAX_BODY + 1), 413),
        ("/v1/models", "GET", b"", 200),
        ("/healthz", "GET", b"", 200),
    ],
)
def test_every_request_has_its_status(
    replica: Any, path: str, method: str, body: object, status: int
) -> None:
    """Errors are problem details with a hint; every answer carries a request id."""
    found, headers, answer = replica.ask(path, body, method)
    assert found == status
    assert headers["x-request-id"]
    if status != 200:
        assert headers["content-type"] == "application/problem+json"
        assert answer["status"] == status
        assert answer["detail"]
        assert answer["hint"]
        assert answer["request_id"] == headers["x-request-id"]


def test_a_body_may_come_in_parts(replica: Any) -> None:
    """The parts are put together; too many of them are refused once the whole has come."""
    content = json.dumps(BODY).encode()
    parts = [{"type": "http.request", "body": content[i : i + 7], "more_body": True}
             for i in range(0, len(content), 7)]  # fmt: skip
    end = {"type": "http.request", "body": b""}
    path = "/v1/models/late/predict"
    assert replica.ask(path, messages=[*parts, end])[0] == 200
    big = {"type": "http.request", "body": b" " * (MAX_BODY // 2 + 1), "more_body": True}
    assert replica.ask(path, messages=[big, big, end])[0] == 413


def test_a_store_that_is_away_is_503_and_may_be_asked_again(replica: Any) -> None:
    """Nothing was found out, so the client may try again."""
    replica.reader.failure = Unavailable("the store is away")
    status, headers, answer = replica.ask("/v1/models/late/predict")
    assert (status, headers["retry-after"], answer["detail"]) == (503, "1", "the store is away")


def test_an_unforeseen_error_says_nothing_of_itself(
    replica: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets 500 and a request id; the reason is in the log under that id."""
    replica.reader.failure = RuntimeError("secret")
    status, headers, answer = replica.ask("/v1/models/late/predict")
    assert status == 500
    assert "secret" not in json.dumps(answer)
    (record,) = caplog.records
    assert record.request_id == headers["x-request-id"]
    assert "secret" in str(record.exc_info)


def test_the_lane_passes_serves_own_paths_on(replica: Any) -> None:
    """Health checks stay Serve's; predictions take the lane once it is open."""
    taken: list[str] = []

    async def serves(scope: Any, receive: Any, send: Any) -> None:
        taken.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    before = FastLane.handler
    lane = FastLane(serves)
    try:
        FastLane.handler = None
        replica.call(lane, "GET", "/healthz", [])
        FastLane.open(replica.app)
        replica.call(lane, "GET", "/-/healthz", [])
        message = {"type": "http.request", "body": b""}
        assert replica.call(lane, "GET", "/healthz", [message])[0] == 200
    finally:
        FastLane.handler = before
    assert taken == ["/healthz", "/-/healthz"]
