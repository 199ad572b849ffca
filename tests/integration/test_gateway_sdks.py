"""The official Python SDKs, unchanged, over real sockets, against upstreams of both schemas."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import uvicorn

from genai_gateway.keys import Caller, Limits
from genai_gateway.testing import KEY, ModelServer, model_server, open_test_gateway
from genai_gateway.testing_models import FILLED, speak_anthropic, speak_openai

POOR = "poor-key"
EXPIRED = "expired-key"
PIXEL = base64.b64encode(b"\x89PNG not really").decode()
TOOL = {
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MODELS = ("on-openai", "on-anthropic")


@contextmanager
def served() -> Iterator[tuple[str, list[ModelServer]]]:
    """A gateway on a real socket before one server of each schema; gives its address."""
    ready, stopping = threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        async with model_server(speak_openai) as one, model_server(speak_anthropic) as other:
            found["servers"] = [one, other]
            app = open_test_gateway(_config(one.url, other.url), callers=_callers())
            settings = uvicorn.Config(app, port=0, log_level="warning", lifespan="on")
            server = uvicorn.Server(settings)
            task = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            found["url"] = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/llm"
            ready.set()
            await asyncio.to_thread(stopping.wait)
            server.should_exit = True
            await task

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    try:
        yield found["url"], found["servers"]
    finally:
        stopping.set()
        thread.join(20)


def _config(one: str, other: str) -> dict[str, Any]:
    def model(provider: str) -> dict[str, Any]:
        return {"targets": [{"provider": provider, "model": "upstream"}]}

    return {
        "providers": {
            "one": {"schema": "openai", "base_url": one, "private": True},
            "other": {"schema": "anthropic", "base_url": other, "private": True},
        },
        "models": {"on-openai": model("one"), "on-anthropic": model("other")},
    }


def _callers() -> dict[str, Caller]:
    return {
        KEY: Caller("rich", "p"),
        POOR: Caller("poor", "p", limits=Limits(requests_per_minute=1)),
        EXPIRED: Caller("old", "p", expires_at=1),
    }


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[str, list[ModelServer]]]:
    """One gateway for all tests of this module."""
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def openai_client(gateway: tuple[str, list[ModelServer]]) -> Iterator[openai.OpenAI]:
    """OpenAI's client, pointed at the gateway."""
    with openai.OpenAI(base_url=f"{gateway[0]}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(gateway: tuple[str, list[ModelServer]]) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, pointed at the gateway."""
    with anthropic.Anthropic(base_url=gateway[0], api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", MODELS)
def test_openai_chat(openai_client: openai.OpenAI, model: str) -> None:
    """A whole chat completion, with usage and the name of who answered."""
    done = openai_client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "hello"}]
    )
    answer = done.parse()
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert done.headers["x-tondo-model"].endswith("/upstream")


@pytest.mark.parametrize("model", MODELS)
def test_openai_chat_stream(openai_client: openai.OpenAI, model: str) -> None:
    """A streamed chat completion, word by word, with its usage at the end."""
    with openai_client.chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "one two three"}],
        stream_options={"include_usage": True},
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert deltas == ["You", " said:", " one", " two", " three"]
    assert final.choices[0].message.content == "You said: one two three"
    assert final.usage.prompt_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_openai_tools(openai_client: openai.OpenAI, model: str, stream: bool) -> None:
    """A forced tool call comes back with its arguments, whole or in pieces."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "weather?"}],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": "required",
    }
    if stream:
        with openai_client.chat.completions.stream(**asked) as events:
            answer = events.get_final_completion()
    else:
        answer = openai_client.chat.completions.create(**asked)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", FILLED)


@pytest.mark.parametrize("model", MODELS)
def test_openai_tool_results(
    openai_client: openai.OpenAI, gateway: tuple[str, list[ModelServer]], model: str
) -> None:
    """The results of tools reach either schema in its own form."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    openai_client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
        tools=[{"type": "function", "function": TOOL}],
    )
    body = gateway[1][MODELS.index(model)].requests[-1].json()
    if model == "on-openai":
        assert body["messages"][-1]["content"] == "sunny"
    else:
        result = {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}
        assert body["messages"][-1] == {"role": "user", "content": [result]}


@pytest.mark.parametrize("model", MODELS)
def test_openai_structured_output(openai_client: openai.OpenAI, model: str) -> None:
    """A JSON schema for the answer is kept by both schemas."""
    form = {"name": "place", "schema": SCHEMA, "strict": True}
    answer = openai_client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "where?"}],
        response_format={"type": "json_schema", "json_schema": form},
    )
    assert json.loads(answer.choices[0].message.content) == FILLED


@pytest.mark.parametrize("model", MODELS)
def test_openai_images(openai_client: openai.OpenAI, model: str) -> None:
    """A picture in the request reaches the model."""
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    answer = openai_client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}],
    )
    assert answer.choices[0].message.content == "I see 1 picture"


@pytest.mark.parametrize("form", ["float", "base64"])
def test_openai_embeddings(openai_client: openai.OpenAI, form: str) -> None:
    """Embeddings, in the encoding that was asked for."""
    answer = openai_client.embeddings.create(
        model="on-openai", input=["a", "b"], encoding_format=form
    )
    vectors = [row.embedding for row in answer.data]
    if form == "float":
        assert vectors == [[0.0, 0.5, -1.0], [1.0, 0.5, -1.0]]
    else:
        assert all(isinstance(vector, str) for vector in vectors)
    one = openai_client.embeddings.create(model="on-openai", input="a")
    assert one.data[0].embedding == [0.0, 0.5, -1.0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_openai_responses(openai_client: openai.OpenAI, model: str, stream: bool) -> None:
    """A response, whole or as its events, with its text and usage."""
    asked: dict[str, Any] = {"model": model, "instructions": "be brief", "input": "good day"}
    if stream:
        with openai_client.responses.stream(**asked) as events:
            kinds = [event.type for event in events]
            answer = events.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
    else:
        answer = openai_client.responses.create(**asked)
    assert answer.output_text == "You said: good day"
    assert answer.status == "completed"
    assert answer.usage.input_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_openai_responses_tools(openai_client: openai.OpenAI, model: str, stream: bool) -> None:
    """A tool call as an item of a response."""
    asked: dict[str, Any] = {
        "model": model,
        "input": [{"role": "user", "content": "weather?"}],
        "tools": [{"type": "function", "strict": False, **TOOL}],
        "tool_choice": "required",
    }
    if stream:
        with openai_client.responses.stream(**asked) as events:
            answer = events.get_final_response()
    else:
        answer = openai_client.responses.create(**asked)
    item = answer.output[0]
    assert (item.type, item.name, json.loads(item.arguments)) == (
        "function_call",
        "weather",
        FILLED,
    )


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_messages(anthropic_client: anthropic.Anthropic, model: str) -> None:
    """A whole message, with its stop reason and usage."""
    answer = anthropic_client.messages.create(
        model=model, max_tokens=50, messages=[{"role": "user", "content": "hello"}]
    )
    assert answer.content[0].text == "You said: hello"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3)


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_stream(anthropic_client: anthropic.Anthropic, model: str) -> None:
    """A streamed message, word by word."""
    with anthropic_client.messages.stream(
        model=model, max_tokens=50, messages=[{"role": "user", "content": "one two"}]
    ) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert texts == ["You", " said:", " one", " two"]
    assert final.stop_reason == "end_turn"
    assert final.usage.input_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_anthropic_tools(anthropic_client: anthropic.Anthropic, model: str, stream: bool) -> None:
    """A forced tool call with its input, whole or in pieces."""
    tool = {"name": "weather", "description": "w", "input_schema": TOOL["parameters"]}
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "weather?"}],
        "tools": [tool],
        "tool_choice": {"type": "tool", "name": "weather"},
    }
    if stream:
        with anthropic_client.messages.stream(**asked) as events:
            answer = events.get_final_message()
    else:
        answer = anthropic_client.messages.create(**asked)
    assert answer.stop_reason == "tool_use"
    block = answer.content[0]
    assert (block.type, block.name, block.input) == ("tool_use", "weather", FILLED)


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_images_and_counting(anthropic_client: anthropic.Anthropic, model: str) -> None:
    """A picture reaches the model; tokens can be counted before."""
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    messages: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    answer = anthropic_client.messages.create(model=model, max_tokens=9, messages=messages)
    assert answer.content[0].text == "I see 1 picture"
    text: Any = [{"role": "user", "content": "hello there"}]
    counted = anthropic_client.messages.count_tokens(model=model, messages=text).input_tokens
    assert counted == (42 if model == "on-anthropic" else 7)


def test_models(openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic) -> None:
    """Both clients list the models, each in its own shape, and can look one up."""
    assert [model.id for model in openai_client.models.list()] == ["on-anthropic", "on-openai"]
    assert [m.id for m in anthropic_client.models.list()] == ["on-anthropic", "on-openai"]
    assert openai_client.models.retrieve("on-openai").id == "on-openai"
    with pytest.raises(anthropic.NotFoundError):
        anthropic_client.models.retrieve("none")


def test_openai_errors(
    gateway: tuple[str, list[ModelServer]], openai_client: openai.OpenAI
) -> None:
    """Errors raise the classes that OpenAI's client has for them, with code and field."""
    hello: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.NotFoundError) as none:
        openai_client.chat.completions.create(model="none", messages=hello)
    assert none.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        openai_client.chat.completions.create(model="on-openai", messages=hello, max_tokens=-1)
    assert (bad.value.param, bad.value.code) == ("max_tokens", "invalid_value")
    for key in ("wrong", EXPIRED):
        client = openai.OpenAI(base_url=f"{gateway[0]}/v1", api_key=key, max_retries=0)
        with client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="on-openai", messages=hello)
    with pytest.raises(openai.BadRequestError) as foreign:
        openai_client.chat.completions.create(
            model="on-anthropic", messages=hello, presence_penalty=1.0
        )
    assert foreign.value.param == "presence_penalty"


def test_rate_limits_raise_and_say_when(gateway: tuple[str, list[ModelServer]]) -> None:
    """A limit that is reached is a RateLimitError of either client, with Retry-After."""
    hello: Any = [{"role": "user", "content": "x"}]
    client = openai.OpenAI(base_url=f"{gateway[0]}/v1", api_key=POOR, max_retries=0)
    with client:
        # The minute may turn between two requests: of three, the third is one too many.
        ask = partial(client.chat.completions.create, model="on-openai", messages=hello)
        with pytest.raises(openai.RateLimitError) as limited:
            repeat(ask)
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
    other = anthropic.Anthropic(base_url=gateway[0], api_key=POOR, max_retries=0)
    with other:
        say = partial(other.messages.create, model="on-openai", max_tokens=5, messages=hello)
        with pytest.raises(anthropic.RateLimitError):
            repeat(say)


def test_anthropic_errors(
    gateway: tuple[str, list[ModelServer]], anthropic_client: anthropic.Anthropic
) -> None:
    """Errors raise the classes that Anthropic's client has for them."""
    hello: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(anthropic.NotFoundError):
        anthropic_client.messages.create(model="none", max_tokens=5, messages=hello)
    with pytest.raises(anthropic.BadRequestError) as bad:
        anthropic_client.messages.create(model="on-openai", max_tokens=0, messages=hello)
    assert "max_tokens" in str(bad.value)
    client = anthropic.Anthropic(base_url=gateway[0], api_key="wrong", max_retries=0)
    with client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(model="on-openai", max_tokens=5, messages=hello)


@pytest.mark.skipif(
    shutil.which("node") is None or "NODE_MODULES" not in os.environ,
    reason="needs node, and NODE_MODULES: the folder of the packages openai and @anthropic-ai/sdk",
)
def test_node(gateway: tuple[str, list[ModelServer]]) -> None:
    """The official Node clients, unchanged: chat, streams, tools, responses, messages, errors."""
    script = Path(__file__).with_name("gateway_sdks.mjs")
    command = ["node", str(script), gateway[0], KEY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 28


def repeat(ask: Any) -> None:
    """Asks three times."""
    for _ in range(3):
        ask()
