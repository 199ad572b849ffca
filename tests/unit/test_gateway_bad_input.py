"""Whatever comes in, what goes out has the surface's own shape, says what is wrong, and a hint."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_gateway.conversation import Json
from genai_gateway.keys import Caller
from genai_gateway.testing import KEY, Got, ask, chat, open_test_gateway, run

ECHO: Json = {
    "providers": {"echo": {"schema": "echo"}},
    "models": {"m": {"targets": [{"provider": "echo", "model": "echo"}]}},
    "max_body_bytes": 100_000,
}
VERSION = {"anthropic-version": "2023-06-01"}
PATHS = ("chat/completions", "completions", "responses", "messages", "embeddings")


def request(path: str, body: Any, **given: Any) -> Got:
    """One request to a gateway with the echo behind it."""

    async def work() -> Got:
        app = open_test_gateway(ECHO, callers=given.pop("callers", None))
        headers = {**VERSION, **given.pop("headers", {})}
        return await ask(app, f"/llm/v1/{path}", body, headers=headers, **given)

    return run(work())


def good(path: str) -> Json:
    """A body that the path takes."""
    bodies: dict[str, Json] = {
        "completions": {"model": "m", "prompt": "x"},
        "responses": {"model": "m", "input": "x"},
        "embeddings": {"model": "m", "input": "x"},
    }
    return bodies.get(path, chat(max_tokens=50))


def check_shape(path: str, got: Got) -> str:
    """The error has its surface's shape; returns its message."""
    data = got.json()
    if path == "messages":
        assert data["type"] == "error"
        assert set(data["error"]) == {"type", "message"}
        assert data["request_id"] == got.headers["request-id"]
    else:
        assert {"message", "type", "param", "code"} <= set(data["error"])
    message: str = data["error"]["message"]
    return message


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"model": "\xff"}', 400),
        (b"[1, 2]", 400),
        (b'"text"', 400),
        (b'{"model": "m", "messages": ' + b"[" * 500 + b"]" * 500 + b"}", 400),
        (b'{"model": NaN}', 400),
        (b'{"model": "m", "pad": "' + b"x" * 200_000 + b'"}', 413),
        (b'{"model": 5}', 400),
        (b'{"model": null}', 400),
        (b"{}", 400),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else value,
)
def test_bodies_that_are_none(path: str, body: bytes, status: int) -> None:
    """Not JSON, not UTF-8, no object, too deep, too long, no model: refused, and said why."""
    got = request(path, body)
    assert got.status == status
    assert check_shape(path, got)


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_model(path: str) -> None:
    """404, with the models that there are."""
    got = request(path, good(path) | {"model": "nobody"})
    assert got.status == 404
    assert "There are: m." in check_shape(path, got)


@pytest.mark.parametrize("path", PATHS)
def test_keys(path: str) -> None:
    """No key, a wrong one, an expired one, one without the scope, one for another model."""
    callers = {
        KEY: Caller("k", "p"),
        "old": Caller("old", "p", expires_at=1),
        "narrow": Caller("narrow", "p", scopes=frozenset({"models"})),
        "other": Caller("other", "p", models=("gpt-*",)),
    }
    wanted = {"Bearer nope": 401, "": 401, "Basic x": 401, "Bearer old": 401}
    wanted |= {"Bearer narrow": 403, "Bearer other": 403}
    for authorization, status in wanted.items():
        headers = {"authorization": authorization}
        got = request(path, good(path), callers=callers, headers=headers)
        assert got.status == status, authorization
        check_shape(path, got)
        assert ("www-authenticate" in got.headers) == (status == 401)
    ok = request("messages", good("messages"), headers={"authorization": "", "x-api-key": KEY})
    assert ok.status == 200


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("chat/completions", {"max_tokens": -1}, "max_tokens"),
        ("chat/completions", {"max_tokens": 1.5}, "max_tokens"),
        ("chat/completions", {"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": "hi"}, "messages"),
        ("chat/completions", {"messages": [5]}, "messages[0]"),
        ("chat/completions", {"messages": [{"role": "king"}]}, "messages[0].role"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ("chat/completions", {"temperature": "hot"}, "temperature"),
        ("chat/completions", {"stream": "yes"}, "stream"),
        ("chat/completions", {"n": 0}, "n"),
        ("chat/completions", {"stop": [1]}, "stop"),
        ("chat/completions", {"tools": [{}]}, "tools[0].type"),
        ("chat/completions", {"tool_choice": "must"}, "tool_choice"),
        ("completions", {"prompt": [1, 2]}, "prompt"),
        ("completions", {"suffix": "x"}, "suffix"),
        ("responses", {"previous_response_id": "r"}, "previous_response_id"),
        ("responses", {"max_output_tokens": 0}, "max_output_tokens"),
        ("responses", {"input": []}, "input"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": [1.5]}, "input[0]"),
        ("embeddings", {"dimensions": 0}, "dimensions"),
    ],
)
def test_wrong_fields_are_named(path: str, change: Json, field: str) -> None:
    """The error says which field is wrong, in the message and in ``param``."""
    got = request(path, good(path) | change)
    assert got.status == 400
    assert field in check_shape(path, got)
    assert got.json()["error"]["param"] == field


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"messages": [{"role": "system", "content": "x"}]},
        {"system": 5},
        {"temperature": 1.5},
        {"tool_choice": {"type": "force"}},
    ],
)
def test_wrong_fields_of_messages(change: Json) -> None:
    """The Messages surface names the field in its message."""
    got = request("messages", good("messages") | change)
    assert got.status == 400
    assert next(iter(change)) in check_shape("messages", got)


def test_versions_of_the_messages_surface() -> None:
    """A missing or unknown version is refused; the newest one has no temperature."""
    for version in ("", "2020-01-01"):
        headers = {"anthropic-version": version}
        got = request("messages", good("messages"), headers=headers)
        assert got.status == 400
        assert "2023-06-01" in check_shape("messages", got)
    headers = {"anthropic-version": "2026-10-21"}
    assert request("messages", good("messages"), headers=headers).status == 200
    warm = good("messages") | {"temperature": 0.5}
    assert request("messages", warm).status == 200
    got = request("messages", warm, headers=headers)
    assert (got.status, "temperature" in check_shape("messages", got)) == (400, True)


def test_paths_that_are_none() -> None:
    """404 in the shape that the client speaks."""
    assert request("nothing", {}).json()["type"] == "error"
    got = request("nothing", {}, headers={"anthropic-version": ""})
    assert got.status == 404


_NAMES = ["role", "content", "type", "text", "tools", "messages", "input", "name", "function"]
_NAMES += ["id", "image_url", "url", "source", "tool_calls", "system"]
_FIELDS = ["messages", "input", "tools", "system", "prompt", "response_format", "tool_choice"]
_FIELDS += ["metadata", "text", "thinking", "output_config", "reasoning"]
_SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    mappings = st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4)
    return st.lists(inner, max_size=3) | mappings


@given(
    st.recursive(_SCALARS, _nested, max_leaves=12), st.sampled_from(PATHS), st.sampled_from(_FIELDS)
)
def test_nothing_makes_it_fail(value: Any, path: str, field: str) -> None:
    """Any JSON in any field is answered or refused; it is never an error of the gateway's own."""
    got = request(path, orjson.dumps(good(path) | {field: value}))
    assert got.status in (200, 400), got.body
    if got.status == 400:
        check_shape(path, got)
