"""The guardrails as a layer: the request before the model sees it, the answer before the client.

Whatever goes wrong here ends the exchange: nothing passes because a step failed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping

import orjson

from genai_gateway.conversation import (
    Answer,
    ChatRequest,
    EmbeddingRequest,
)
from genai_gateway.events import (
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolDelta,
    ToolStarted,
    Unknown,
)
from genai_gateway.exchange import Exchange, Handler, Reply
from genai_gateway.guardrails.placeholders import Vault
from genai_gateway.guardrails.policy import Policy
from genai_gateway.guardrails.positions import visit_answer, visit_embedding, visit_request
from genai_gateway.guardrails.schema import SchemaCheck
from genai_gateway.guardrails.steps import Channel, Guard, Report
from genai_gateway.tokens import text_of

_Key = tuple[str, int, int]


class Guarded:
    """Applies the policy of each exchange's route; a route without one passes as it is."""

    def __init__(self, inner: Handler, policies: Mapping[str, Policy]) -> None:
        self._inner = inner
        self._guards = {name: Guard(policy) for name, policy in policies.items()}

    async def __call__(self, exchange: Exchange) -> Reply:
        """The guarded reply. Raises Blocked."""
        if not exchange.route.policy:
            return await self._inner(exchange)
        guard = self._guards[exchange.route.policy]
        report = Report(guard.policy.label)
        exchange.report = report
        vault = Vault.apart_from(_all_words(exchange.request))
        exchange.vault = vault
        check = SchemaCheck.of(exchange.request) if guard.policy.check_schema else None
        exchange.request = visit_request(exchange.request, guard.visit_input(vault, report))
        reply = await self._inner(exchange)
        if isinstance(reply, Answer):
            answer = visit_answer(reply, guard.visit_output(vault, report))
            return check.answer(answer) if check else answer
        if not guard.output and not len(vault) and check is None:
            return reply
        return _filtered(reply, guard, vault, report, check)

    def hidden(self, policy: str, request: ChatRequest) -> ChatRequest:
        """A request as a policy would let a model see it. Raises Blocked."""
        if not policy:
            return request
        guard = self._guards[policy]
        vault = Vault.apart_from(_all_words(request))
        return visit_request(request, guard.visit_input(vault, Report(guard.policy.label)))

    def embedding(self, policy: str, request: EmbeddingRequest) -> tuple[EmbeddingRequest, Report]:
        """A guarded request for embeddings, and what was seen. Raises Blocked."""
        if not policy:
            return request, Report("")
        guard = self._guards[policy]
        report = Report(guard.policy.label)
        words = "".join(given for given in request.inputs if isinstance(given, str))
        visitor = guard.visit_input(Vault.apart_from(words), report)
        return visit_embedding(request, visitor), report


async def _filtered(
    events: AsyncIterator[Event],
    guard: Guard,
    vault: Vault,
    report: Report,
    check: SchemaCheck | None,
) -> AsyncIterator[Event]:
    stream = _Stream(guard, vault, report)
    try:
        async for event in events:
            for shown in stream.feed(event):
                if check is not None:
                    check.event(shown)
                yield shown
            if stream.blocked is not None:
                raise stream.blocked
    finally:
        await events.aclose()  # type: ignore[attr-defined]


class _Stream:
    """The channels of one stream."""

    def __init__(self, guard: Guard, vault: Vault, report: Report) -> None:
        self._guard = guard
        self._vault = vault
        self._report = report
        self._channels: dict[_Key, Channel] = {}
        self.blocked: Exception | None = None

    def feed(self, event: Event) -> Iterator[Event]:
        """The events to show for an event; words that are held back come with a later one."""
        if isinstance(event, (TextDelta, ReasoningDelta, RefusalDelta, ToolDelta)):
            yield from self._words(event)
            return
        if isinstance(event, Unknown):
            # What cannot be read is not shown: a finding may be in it.
            self._report.unread["stream event"] += 1
            return
        if isinstance(event, (Finished, ToolStarted)):
            yield from self._end(event.choice, tools=isinstance(event, Finished))
        if self.blocked is None:
            yield event

    def _words(
        self, event: TextDelta | ReasoningDelta | RefusalDelta | ToolDelta
    ) -> Iterator[Event]:
        key = _key(event)
        channel = self._channels.get(key)
        if channel is None:
            json = isinstance(event, ToolDelta)
            channel = self._channels[key] = self._guard.channel(self._vault, self._report, json)
        shown = channel.feed(event.arguments if isinstance(event, ToolDelta) else event.text)
        signature = event.signature if isinstance(event, ReasoningDelta) else ""
        if shown or signature:
            yield _said(key, shown, signature)
        self.blocked = self.blocked or channel.blocked

    def _end(self, choice: int, tools: bool) -> Iterator[Event]:
        """What the channels of a choice hold back; those of tools go on until it is finished."""
        for key in list(self._channels):
            if key[1] == choice and (tools or key[0] != "tool"):
                channel = self._channels.pop(key)
                rest = channel.end()
                if rest:
                    yield _said(key, rest)
                self.blocked = self.blocked or channel.blocked


def _key(event: TextDelta | ReasoningDelta | RefusalDelta | ToolDelta) -> _Key:
    if isinstance(event, TextDelta):
        return "text", event.choice, 0
    if isinstance(event, ToolDelta):
        return "tool", event.choice, event.index
    return "thought" if isinstance(event, ReasoningDelta) else "refusal", event.choice, 0


def _said(key: _Key, text: str, signature: str = "") -> Event:
    kind, choice, index = key
    if kind == "text":
        return TextDelta(text, choice)
    if kind == "tool":
        return ToolDelta(index, text, choice)
    if kind == "thought":
        return ReasoningDelta(text, choice, signature)
    return RefusalDelta(text, choice)


def _all_words(request: ChatRequest) -> str:
    """Everything in the request in which a placeholder's look-alike could stand."""
    words = [text_of(part) for part in request.parts()]
    rest = (dict(request.extra), dict(request.metadata), request.user)
    return "\n".join([*words, orjson.dumps(rest).decode()])
