"""A streamed answer as a sequence of events, and a whole answer folded from them.

A *channel* is one run of text within a choice: its words, its reasoning, its refusal, or the
arguments of one tool call. A provider's reader raises ``UpstreamFailed`` for what is not a stream
of its schema, and for one that ends before it is finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from genai_gateway.conversation import (
    NOTHING,
    Answer,
    Choice,
    Extra,
    Part,
    Reasoning,
    Refusal,
    StopReason,
    Text,
    ToolCall,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Started:
    """The provider began to answer."""

    id: str
    model: str
    created_s: int
    usage: Usage | None = None


@dataclass(slots=True)
class TextDelta:
    """More words of a choice. Not frozen: there is one a token, and frozen ones cost three times
    as much to make; nobody changes one.
    """

    text: str
    choice: int = 0
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks, or the seal of it."""

    text: str
    choice: int = 0
    signature: str = ""


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """More of the model's own refusal."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The model begins to call a tool; ``index`` counts the tool calls of a choice."""

    index: int
    id: str
    name: str
    choice: int = 0
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """More of the arguments of a tool call."""

    index: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that only ``schema`` has a word for, as it came."""

    schema: str
    data: dict[str, object]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """A choice is complete."""

    stop: StopReason
    choice: int = 0
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class UsageReported:
    """The tokens of the whole turn so far."""

    usage: Usage


Event = (
    Started
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolStarted
    | ToolDelta
    | Unknown
    | Finished
    | UsageReported
)

CONTENT = (TextDelta, ReasoningDelta, RefusalDelta, ToolStarted, ToolDelta)


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    signature: str = ""
    refusal: list[str] = field(default_factory=list)
    tools: dict[int, tuple[ToolStarted, list[str]]] = field(default_factory=dict)
    finished: Finished | None = None

    def parts(self) -> Iterator[Part]:
        if self.reasoning or self.signature:
            yield Reasoning("".join(self.reasoning), self.signature)
        if self.text:
            yield Text("".join(self.text))
        if self.refusal:
            yield Refusal("".join(self.refusal))
        for started, arguments in self.tools.values():
            yield ToolCall(started.id, started.name, "".join(arguments), started.extra)


class Fold:
    """Adds up the events of a stream into the answer that a request without stream would get."""

    def __init__(self) -> None:
        self._started = Started("", "", 0)
        self._choices: dict[int, _Choice] = {}
        self.usage: Usage | None = None

    def add(self, event: Event) -> None:
        """Takes in one event."""
        if isinstance(event, TextDelta):
            self._choice(event.choice).text.append(event.text)
        elif isinstance(event, Started):
            self._started, self.usage = event, event.usage
        elif isinstance(event, UsageReported):
            self.usage = event.usage
        elif not isinstance(event, Unknown):
            self._add_rare(event)

    def answer(self) -> Answer:
        """The answer so far; a choice that is not finished counts as stopped."""
        first = self._started
        choices = tuple(_folded(self._choices[n]) for n in sorted(self._choices))
        return Answer(first.id, first.model, first.created_s, choices, self.usage)

    @property
    def finished(self) -> bool:
        """Whether there is a choice, and every choice is complete."""
        return bool(self._choices) and all(c.finished for c in self._choices.values())

    def _choice(self, number: int) -> _Choice:
        if number not in self._choices:
            self._choices[number] = _Choice()
        return self._choices[number]

    def _add_rare(
        self, event: ReasoningDelta | RefusalDelta | ToolStarted | ToolDelta | Finished
    ) -> None:
        choice = self._choice(event.choice)
        if isinstance(event, ReasoningDelta):
            choice.reasoning.append(event.text)
            choice.signature += event.signature
        elif isinstance(event, RefusalDelta):
            choice.refusal.append(event.text)
        elif isinstance(event, ToolStarted):
            choice.tools[event.index] = (event, [])
        elif isinstance(event, ToolDelta):
            choice.tools[event.index][1].append(event.arguments)
        else:
            choice.finished = event


def fold(events: Iterable[Event]) -> Answer:
    """The answer that a whole stream adds up to."""
    folded = Fold()
    for event in events:
        folded.add(event)
    return folded.answer()


def unfold(answer: Answer) -> Iterator[Event]:
    """A whole answer as a stream: what a provider that cannot stream, or a cache, replays."""
    yield Started(answer.id, answer.model, answer.created_s)
    for number, choice in enumerate(answer.choices):
        tools = 0
        for part in choice.parts:
            yield from _unfolded(part, number, tools)
            tools += isinstance(part, ToolCall)
        yield Finished(choice.stop, number, choice.stop_sequence)
    if answer.usage is not None:
        yield UsageReported(answer.usage)


def _unfolded(part: Part, choice: int, tool: int) -> Iterator[Event]:
    if isinstance(part, Text):
        yield TextDelta(part.text, choice)
    elif isinstance(part, Reasoning):
        yield ReasoningDelta(part.text, choice, part.signature)
    elif isinstance(part, Refusal):
        yield RefusalDelta(part.text, choice)
    elif isinstance(part, ToolCall):
        yield ToolStarted(tool, part.id, part.name, choice, part.extra)
        yield ToolDelta(tool, part.arguments, choice)


def _folded(choice: _Choice) -> Choice:
    finished = choice.finished or Finished("stop")
    return Choice(tuple(choice.parts()), finished.stop, finished.stop_sequence)
