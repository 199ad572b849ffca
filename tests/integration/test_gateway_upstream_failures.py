"""Every way an upstream can fail, with a real server that fails so: no truncated success."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest

from genai_gateway.testing import (
    Got,
    Received,
    Wire,
    ask,
    chat,
    chat_chunks,
    chat_completion,
    message_events,
    model_server,
    one_server,
    open_test_gateway,
    run,
)
from genai_gateway.testing_models import FAST, say_hello, two_servers, words_of

Behaviour = Callable[[Received, Wire], Awaitable[None]]


async def reset_before_head(_: Received, wire: Wire) -> None:
    """Hangs up without a word."""
    wire.reset()


async def reset_after_head(_: Received, wire: Wire) -> None:
    """Hangs up after the head."""
    await wire.head(kind="application/json")
    wire.reset()


async def slow_first_token(_: Received, wire: Wire) -> None:
    """Sends a head and then nothing."""
    await wire.head()
    await wire.client_left()


async def silent(_: Received, wire: Wire) -> None:
    """Takes the request and never answers."""
    await wire.client_left()


async def not_json(_: Received, wire: Wire) -> None:
    """Answers with a page of HTML."""
    await wire.whole(b"<html>oops</html>", kind="text/html")


async def broken_json(_: Received, wire: Wire) -> None:
    """Answers with half a JSON object."""
    await wire.whole(b'{"choices": [')


async def wrong_shape(_: Received, wire: Wire) -> None:
    """Answers with JSON of another schema."""
    await wire.whole({"choices": [{"message": "text"}]})


async def error_inside(_: Received, wire: Wire) -> None:
    """Answers 200 with an error inside."""
    await wire.whole({"error": {"message": "I am overloaded", "type": "overloaded_error"}})


async def empty_answer(_: Received, wire: Wire) -> None:
    """Answers 200 without any choice."""
    await wire.whole(chat_completion() | {"choices": []})


async def server_error(_: Received, wire: Wire) -> None:
    """Answers 500."""
    await wire.whole({"error": {"message": "broken"}}, status=500)


async def unavailable(_: Received, wire: Wire) -> None:
    """Answers 503 without a body."""
    await wire.whole(b"", status=503)


async def too_many(_: Received, wire: Wire) -> None:
    """Answers 429 without a hint when to come back."""
    await wire.whole({"error": {"message": "slow down"}}, status=429)


async def redirect(_: Received, wire: Wire) -> None:
    """Sends the gateway to another address."""
    await wire.whole(b"", status=302, location="http://169.254.169.254/")


async def malformed_event(_: Received, wire: Wire) -> None:
    """Streams something that is no JSON."""
    await wire.stream([b"data: {oops\n\n"])


async def empty_stream(_: Received, wire: Wire) -> None:
    """Streams nothing at all."""
    await wire.stream([])


async def only_done(_: Received, wire: Wire) -> None:
    """Streams the end mark alone."""
    await wire.stream([b"data: [DONE]\n\n"])


async def error_event(_: Received, wire: Wire) -> None:
    """Streams an error before any token."""
    await wire.stream([b'data: {"error": {"message": "no", "type": "server_error"}}\n\n'])


BEFORE_ANY_TOKEN: list[Behaviour] = [
    reset_before_head,
    reset_after_head,
    silent,
    not_json,
    error_inside,
    server_error,
    unavailable,
    too_many,
    redirect,
]
WHOLE_ONLY = [broken_json, wrong_shape, empty_answer]
STREAM_ONLY = [slow_first_token, malformed_event, empty_stream, only_done, error_event]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behave", BEFORE_ANY_TOKEN + WHOLE_ONLY + STREAM_ONLY)
def test_another_target_answers(behave: Behaviour, stream: bool) -> None:
    """Whatever goes wrong before the first token, the client gets the next target's answer."""
    if behave in (WHOLE_ONLY if stream else STREAM_ONLY):
        pytest.skip("the behaviour is of the other kind of answer")

    async def work() -> Got:
        async with model_server(behave) as bad, model_server(say_hello) as good:
            app = open_test_gateway(two_servers(bad.url, good.url))
            return await ask(app, "/llm/v1/chat/completions", chat(stream=stream))

    got = run(work())
    assert got.status == 200
    assert got.headers["x-tondo-model"] == "good/good-model"
    said = words_of(got) if stream else got.json()["choices"][0]["message"]["content"]
    assert said == "Hello"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behave", BEFORE_ANY_TOKEN + WHOLE_ONLY + STREAM_ONLY)
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_without_another_target_the_error_is_well_formed(
    behave: Behaviour, stream: bool, path: str
) -> None:
    """Where nobody else can answer, the client gets an error in its own surface's shape."""
    if behave in (WHOLE_ONLY if stream else STREAM_ONLY):
        pytest.skip("the behaviour is of the other kind of answer")
    body = chat(stream=stream, max_tokens=9)
    if path == "responses":
        body = {"model": "m", "input": "Hi", "stream": stream}

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            headers = {"anthropic-version": "2023-06-01"}
            return await ask(app, f"/llm/v1/{path}", body, headers=headers)

    got = run(work())
    assert got.status in (429, 502, 504)
    error = got.json()["error"]
    assert "upstream" in error["message"]
    assert error["type"]
    assert ("type" in got.json()) == (path == "messages")


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses", "completions"])
@pytest.mark.parametrize("how", ["reset", "end", "stall", "malformed", "error"])
def test_a_stream_that_breaks_ends_in_an_error(path: str, how: str) -> None:
    """After the first token a failure is an error event, never a truncated success."""
    head = chat_chunks(["Hel", "lo"], finish=None)

    async def behave(_: Received, wire: Wire) -> None:
        await wire.head()
        for event in head:
            await wire.chunk(event)
        if how == "reset":
            wire.reset()
        elif how == "end":
            await wire.chunk(b"")
        elif how == "stall":
            await wire.client_left()
        elif how == "malformed":
            await wire.chunk(b"data: }\n\n")
        else:
            await wire.chunk(b'data: {"error": {"message": "died"}}\n\n')

    body = chat(stream=True, max_tokens=9)
    if path == "responses":
        body = {"model": "m", "input": "Hi", "stream": True}
    if path == "completions":
        body = {"model": "m", "prompt": "Hi", "stream": True}

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            headers = {"anthropic-version": "2023-06-01"}
            return await ask(app, f"/llm/v1/{path}", body, headers=headers)

    got = run(work())
    assert got.status == 200
    assert b"Hel" in got.body
    name, last = got.events()[-1]
    assert "error" in last
    assert name == {"messages": "error", "responses": "error"}.get(path, "")
    for mark in (b"[DONE]", b"message_stop", b"response.completed", b'"finish_reason":"stop"'):
        assert mark not in got.body


def test_an_anthropic_stream_that_breaks_ends_in_an_error() -> None:
    """The same for an upstream of Anthropic's schema."""

    async def behave(_: Received, wire: Wire) -> None:
        await wire.stream(message_events(["Hel"], stop=None))

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, "anthropic", **FAST))
            return await ask(app, "/llm/v1/chat/completions", chat(stream=True))

    got = run(work())
    assert "error" in got.events()[-1][1]
    assert b"[DONE]" not in got.body


def test_nobody_listens() -> None:
    """A refused connection and an unknown host are errors of the upstream, told as such."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid"):

        async def work(url: str = url) -> Got:
            app = open_test_gateway(one_server(url, **FAST))
            return await ask(app, "/llm/v1/chat/completions", chat())

        got = run(work())
        assert got.status == 502
        assert got.json()["error"]["code"] == "upstream_error"
